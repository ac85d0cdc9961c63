"""The identity of the cell that a pytest item times, and its row."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import pytest

from bench import __version__
from bench.measure import refusal, visits
from bench.measure.cell import Cell
from bench.measure.checks import Result
from bench.plugin.conflicts import STEP
from bench.plugin.options import Run
from bench.records import checks
from bench.records.lines import one_line, shortened, text_of
from bench.records.params import join, word
from bench.records.schema import CellKey, Row
from bench.report import reasons

CELL = pytest.StashKey[Cell]()
#: The parts of the process's state that a benchmark has changed.
CHANGED = pytest.StashKey[list[str]]()
#: Columns that are fields of a `Result`.
_OF_RESULT = (
    *("first_call_s", "device_s", "dispatch_s", "peak_bytes"),
    *("items", "item_unit", "bytes", "flop"),
)
#: Characters of a reason.
LONGEST = 2_000


def is_cell(item: pytest.Item) -> TypeGuard[pytest.Function]:
    """Whether the item times a cell."""
    return isinstance(item, pytest.Function) and "cell" in item.fixturenames


def given(item: pytest.Function) -> dict[str, Any]:
    """Return the device, dtype and params of a cell, by name."""
    return dict(item.callspec.params)


def family(item: pytest.Function) -> str:
    """Return the name of the benchmark's package; outside a package, that of its file.

    Neither depends on the folder in which pytest starts. ``bench_`` at the start is left out.
    """
    package = (item.path.parent / "__init__.py").exists()
    return (item.path.parent.name if package else item.path.stem).removeprefix("bench_")


def benchmark(item: pytest.Function) -> str:
    """Return the name of the benchmark."""
    return item.originalname.removeprefix("bench_")


def params(item: pytest.Function) -> str:
    """Return the params as in the CSV."""
    words = {name: word(value) for name, value in given(item).items()}
    own = words.keys() - {"device", "dtype", STEP}
    return join({name: _id(item, name) if words[name] is None else words[name] for name in own})


def key(item: pytest.Function) -> CellKey:
    """Return the name of a cell in the results."""
    where = given(item)
    return CellKey(family(item), benchmark(item), where["device"], where["dtype"], params(item))


#: What `pytest.param` returns; values have attributes of these names too, such as `dict.values`.
_MARKED: type[Any] = type(pytest.param(None))


def _id(item: pytest.Function, name: str) -> str:
    """Return pytest's id of the value of one param: the given one, or ``<name><index>``."""
    value = given(item)[name]
    for mark in item.iter_markers("parametrize"):
        known = {**mark.kwargs, **dict(zip(("argnames", "argvalues"), mark.args, strict=False))}
        names, values, ids = known["argnames"], known["argvalues"], known.get("ids")
        names = [one.strip() for one in names.split(",")] if isinstance(names, str) else list(names)
        if name not in names or not isinstance(values, (list, tuple)):
            continue
        for index, one in enumerate(values):
            # `pytest.param` holds a tuple, and so does an entry for several names.
            marked = isinstance(one, _MARKED)
            several = one.values if marked else one if len(names) > 1 else (one,)
            if several[names.index(name)] is value:
                explicit = one.id if marked else None
                if explicit is None and isinstance(ids, (list, tuple)):
                    explicit = ids[index]
                elif explicit is None and callable(ids):
                    explicit = ids(value)
                return explicit if isinstance(explicit, str) else f"{name}{index}"
    return item.callspec.id


def identity(item: pytest.Function, run: Run) -> dict[str, Any]:
    """Return the columns that are known before the cell starts."""
    cell = key(item)
    device = run.devices[cell.device]
    return {
        **run.environment.columns(),
        "suite_version": __version__,
        "run_id": run.id,
        "run_started": run.started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "machine": run.machine,
        "device_name": device.model or run.environment.cpu,
        "driver": device.driver,
        **cell._asdict(),
    }


def row(
    item: pytest.Function,
    run: Run,
    status: str,
    reason: str,
    result: Result | None = None,
    judged: visits.Judged | None = None,
) -> Row:
    """Return the row of a cell that has ended with this result; a long `reason` is cut."""
    known = identity(item, run)
    if result:
        if result.visits:
            judged = judged or visits.judge(result.visits, run.kernels)
            known |= judged.columns
        known |= {name: getattr(result, name) for name in _OF_RESULT}
        known |= {name: getattr(result.answer, name) for name in ("rel_error", "tolerance")}
    if changed := item.stash.get(CHANGED, []):
        reason = "; ".join(filter(None, [reason, reasons.changed_state(changed)]))
    return Row(status=status, reason=shortened(private(reason), LONGEST), **known)


def of_exception(raised: BaseException) -> tuple[str, str]:
    """Return the status and the reason of a cell that raised something, or was skipped."""
    if isinstance(raised, pytest.skip.Exception):
        return "unsupported", f"skipped: {one_line(text_of(raised))}"
    return refusal.classify(raised)


def private(text: str) -> str:
    """Return a text without the user's home folder, which names the user."""
    try:
        home = str(Path.home())
    except RuntimeError:  # nobody knows it
        return text
    return text.replace(home, "~") if len(home) > 1 else text


def outcome(result: Result, run: Run, judged: visits.Judged | None = None) -> tuple[str, str]:
    """Return the status and the reason of a cell in which nothing was raised."""
    notes = list(result.notes)
    if result.denormal is not None:
        notes.append(reasons.denormal(result.denormal))
    if result.fell_back:
        return "fallback", "; ".join([reasons.fallback(result.fell_back), *notes])
    if judged is None and result.visits:
        judged = visits.judge(result.visits, run.kernels)
    doubts = list(_doubts(judged)) if judged else []
    if judged is None or not doubts:
        return "ok", "; ".join(notes)
    return "unstable", "; ".join([reasons.disturbances([*doubts, *judged.found]), *notes])


def _doubts(judged: visits.Judged) -> Iterator[visits.Disturbance]:
    """Yield why the time of a cell is uncertain."""
    if judged.width > visits.WIDEST:
        yield visits.Disturbance("wide", {"times": judged.width})
    times = judged.columns["median_s"] / (judged.columns["min_s"] or math.inf)
    if times > checks.MIN_BELOW_MEDIAN:
        yield visits.Disturbance("uneven", {"times": times})


def hand_over(entry: Any, rounds_s: Iterable[float], iterations: int) -> None:
    """Replace the rounds in an entry of pytest-benchmark."""
    entry.stats.data.clear()
    for seconds in rounds_s:
        entry.update(seconds * iterations)
