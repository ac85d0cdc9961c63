"""Choose the cells of a run by its profile and options, and put them in order."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from bench.compare.cells import grouped
from bench.measure import dtypes
from bench.plugin import conflicts, options, rows
from bench.plugin.options import SUITE, Run
from bench.records.choices import unknown
from bench.records.lines import printable
from bench.records.params import split, word
from bench.records.schema import CellKey
from bench.suite import axes


def pairs(benchmark: pytest.Item, run: Run) -> list[tuple[str, str]]:
    """Return the devices and the dtypes, in pairs, in which a benchmark may be timed.

    Raises CollectError, one line, if its mark names an unknown dtype, or none.
    """
    mark = benchmark.get_closest_marker("dtypes")
    names = mark.args if mark else axes.FLOATING
    if fault := unknown(names or [""], dtypes.NAMES):
        raise pytest.Collector.CollectError(f"{benchmark.nodeid}: mark dtypes: {fault}")
    # Thousands of cells that are not wanted would take a second to collect. One of them remains if
    # there is no other, and is deselected later.
    possible = [name for name in dtypes.NAMES if name in names]
    asked = [name for name in possible if _wanted_dtype(benchmark, name, run)] or possible[:1]
    return [(device, name) for device in run.devices for name in asked]


def chosen(items: list[pytest.Item], run: Run) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests of a run in their order, and the cells that are left out.

    The dtypes and devices of a benchmark are timed one after the other, so that a drift of the
    machine is no difference between them. Raises UsageError if two cells have the same identity.
    """
    cells = list(filter(rows.is_cell, items))
    wanted = [item for item in cells if _wanted(item, run)]
    conflicts.check_items(wanted)
    options.check_families(run, map(rows.family, cells))
    _check_unique(wanted)
    alike = grouped(wanted, lambda item: (item.path, item.originalname, rows.params(item)))
    kept = set(wanted)
    others = [item for item in items if not rows.is_cell(item)]
    return [*others, *chain(*alike.values())], [item for item in cells if item not in kept]


def timed_by(item: pytest.Function, run: Run) -> pytest.MarkDecorator:
    """Return the mark that sets the clock and the group of a cell in pytest-benchmark.

    Only the closest such mark counts there, so this one repeats the values of the others.
    """
    settings: dict[str, Any] = {"group": rows.benchmark(item)}
    for mark in reversed(list(item.iter_markers("benchmark"))):
        settings |= mark.kwargs
    settings["timer"] = run.devices[rows.given(item)["device"]].clock
    made: pytest.MarkDecorator = pytest.mark.benchmark(**settings)
    return made


def nameless(items: list[pytest.Item]) -> list[str]:
    """Return a line on each value without a name: the name by which it is recorded."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in filter(rows.is_cell, items):
        words = split(rows.params(item))
        for name, value in rows.given(item).items():
            if word(value) is None:
                found.setdefault((item.originalname, name), []).append(words[name])
    return [
        printable(
            f"{benchmark}: values of {name!r} have no name and are recorded as "
            f"{', '.join(dict.fromkeys(ids))}; name them: pytest.param(..., id=...)"
        )
        for (benchmark, name), ids in found.items()
    ]


def _wanted_dtype(benchmark: pytest.Item, dtype: str, run: Run) -> bool:
    """Whether the profile and the options ask for cells of a benchmark in this dtype."""
    if run.cells is not None:
        return any(cell.dtype == dtype for cell in run.cells)
    if run.dtypes:
        return dtype in run.dtypes
    mark = benchmark.get_closest_marker("dtypes")
    declared = mark.kwargs if mark else {}
    return run.profile.every_dtype or dtype in declared.get("default", axes.DEFAULT_DTYPES)


def _wanted(item: pytest.Function, run: Run) -> bool:
    """Whether the profile and the options ask for this cell."""
    cell = rows.key(item)
    if cell in run.finished:
        return False
    on_host = run.devices[cell.device].is_host
    if item.get_closest_marker("accelerator_only" if on_host else "host_only"):
        return False
    if run.cells is not None:
        return cell in run.cells  # whatever profile or option they came from
    if cell.family not in run.families if run.families else cell.family in options.ON_REQUEST:
        return False
    if item.get_closest_marker("full") and not run.profile.every_size:
        return False
    if run.profile.marked_only and not _quick(item):
        return False
    return _wanted_dtype(item, cell.dtype, run)


def _quick(item: pytest.Function) -> bool:
    """Whether a cell is among those of profile `quick`; a file of the user may mark none.

    Raises UsageError if its mark names another param.
    """
    mark, given = item.get_closest_marker("quick"), rows.given(item)
    if mark is None:
        return not item.path.is_relative_to(SUITE)
    if fault := unknown(mark.kwargs, given):
        raise pytest.UsageError(f"{item.nodeid}: mark quick: {fault}")
    return all(given[name] in values for name, values in mark.kwargs.items())


def _check_unique(cells: list[pytest.Function]) -> None:
    """Raise UsageError if two files have the same benchmark, or two cells the same identity."""
    files: dict[tuple[str, str], Path] = {}
    seen: dict[CellKey, str] = {}
    for item in cells:
        cell = rows.key(item)
        name = (cell.family, cell.benchmark)
        if files.setdefault(name, item.path) != item.path:
            raise pytest.UsageError(
                f"{item.path}: benchmark {'/'.join(name)} is in {files[name]} too; "
                "rename one of the two"
            )
        if seen.setdefault(cell, item.nodeid) != item.nodeid:
            raise pytest.UsageError(
                f"{item.nodeid} and {seen[cell]} have the same params in the results "
                f"({cell.params or 'none'}); give each its own name: "
                "pytest.param(..., id=...)"
            )
