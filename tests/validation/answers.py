"""How many faults the answer check notices: break the kernel of each benchmark, count what is seen.

``python -m tests.validation.answers [-k WORD] [--dtype NAME ...] [--profile full] [--list]`` prints
caught of tried by benchmark and dtype. A break that changes nothing (the sign of a bool, 1 % of a
small integer) is not tried. With ``--seeds 100`` nothing is broken: it checks each cell with as many
other inputs, on one and two threads, with and without oneDNN, and as often with partial sums in
float32 that are rounded every 8 to 128 terms, and prints the false alarms.
"""

import argparse
import collections
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bench.measure import cell, deviations, devices, dtypes, references, refusal, rounds
from bench.measure.cell import Cell
from bench.plugin import rows
from bench.suite.training import models
from tests.validation.breaks import NAMES, NotApplied, broken, is_fault
from tests.validation.partial_sums import TERMS, PartialSums

#: Larger cells are the same kernels again.
MOST_ELEMENTS, MOST_SAMPLES = 2**20, 256


class BrokenCell(Cell):
    """A cell whose operation is broken; without a name, as it is."""

    broken_by = ""

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> None:
        """Break the operation, then check and time it."""
        if not self.broken_by:
            super().__call__(operation, *args, **kwargs)
            return
        if isinstance(operation, torch.nn.Module):
            plain = not kwargs.keys() & {"check", "against", "expect"}
            if plain:
                operation, args = type(operation).__call__, (operation, *args)
        super().__call__(broken(self.broken_by, operation), *args, **kwargs)


class _Collect:
    """A plugin that keeps the cells of a run instead of timing them."""

    items: list[pytest.Function]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.items = list(filter(rows.is_cell, items))
        items.clear()


def cells(*words: str) -> list[pytest.Function]:
    """Return the cells that ``pytest bench`` with these options would time."""
    collect = _Collect()
    command = ["bench", "-p", "no:terminal", "--device=cpu", *words]
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main([*command, "--collect-only"], plugins=[collect])
    return collect.items


def call(body: Callable[..., None], dtype: str, params: dict[str, Any], name: str = "") -> Cell:
    """Run a benchmark as in profile `smoke`; return its cell. Raises what the benchmark raises."""
    made = BrokenCell(devices.find("cpu"), dtypes.find(dtype), rounds.Plan(1, 0, 0))
    made.broken_by = name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body(made, **params)
    finally:
        made.close()
    return made


def of(item: pytest.Function) -> tuple[Callable[..., None], str, dict[str, Any]]:
    """Return what `call` needs of a cell."""
    given = rows.given(item)
    params = {key: value for key, value in given.items() if key not in ("device", "dtype")}
    return item.obj, given["dtype"], params


def seen(body: Callable[..., None], dtype: str, params: dict[str, Any], name: str) -> str | None:
    """Return what a benchmark finds wrong if its kernel has the fault; None if not applied."""
    try:
        call(body, dtype, params, name)
    except (NotApplied, NotImplementedError):
        return None
    except Exception as problem:
        if not name and refusal.classify(problem)[0] == "unsupported":
            return None
        return str(problem) or type(problem).__name__
    return ""


def caught(item: pytest.Function, name: str = "", quiet: bool = False) -> bool | None:
    """Return whether a cell is not ok if its kernel has the fault; None if it was not applied."""
    found = seen(*of(item), name)
    if found and not name and not quiet:
        print(f"{item.name}: {found}", file=sys.stderr, flush=True)
    return None if found is None else bool(found)


def small(item: pytest.Function) -> bool:
    """Whether a cell is quick enough to be broken a dozen times."""
    given = rows.given(item)
    return int(given.get("n", 0)) <= MOST_ELEMENTS and int(given.get("batch", 0)) <= MOST_SAMPLES


def tried(items: list[pytest.Function], names: tuple[str, ...]) -> Iterator[tuple[Any, str, bool]]:
    """Yield each cell, the name of the break, and whether the cell noticed it."""
    for item in items:
        with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):
            for name in names:
                if is_fault(item.name, name) and (noticed := caught(item, name)) is not None:
                    yield item, name, noticed


@contextlib.contextmanager
def inputs(seed: int) -> Iterator[None]:
    """Give the cells other inputs and another network."""
    block = cell._block

    def other_network() -> models.NeuralNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return models.NeuralNetwork()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell, "_block", lambda floating, own: block(floating, own + 1000 * seed))
        patch.setattr(models, "seeded_network", other_network)
        yield


def with_rounding(items: list[pytest.Function], limit_s: float) -> Iterator[pytest.Function]:
    """Yield the cells that a rounding can make wrong and that take less than `limit_s` to check.

    Prints those that are wrong.
    """
    for item in items:
        start = time.perf_counter()
        try:
            tolerance = call(*of(item)).result.answer.tolerance
        except Exception as problem:
            if refusal.classify(problem)[0] != "unsupported":
                print(f"{item.name}: {problem}", file=sys.stderr, flush=True)
            continue
        if tolerance and time.perf_counter() - start < limit_s:
            yield item


def alarm(item: pytest.Function, sums: PartialSums, quiet: bool = False) -> bool | None:
    """Return whether a small cell is wrong with these partial sums; None if it has no sums."""
    given = rows.given(item)
    large = int(given.get("n", 0)) > 256 or int(given.get("batch", 0)) > 64
    if large or rows.benchmark(item) == "compiled":  # which would compile the replacement
        return None
    with sums:
        found = caught(item, quiet=quiet)
    return found if sums.applied else None


def false_alarms(items: list[pytest.Function], seeds: int, limit_s: float) -> None:
    """Print each right cell that is called wrong, and how many of all checks."""
    chosen = list(with_rounding(items, limit_s))
    names = {rows.benchmark(item) for item in chosen}
    print(
        f"{len(items)} cells, {len(chosen)} of {len(names)} benchmarks with rounding, "
        f"below {limit_s} s",
        flush=True,
    )
    table = {name: collections.Counter[bool]() for name in ("plain", "sums in float32", *SHORT)}
    for seed in range(seeds):
        torch.set_num_threads(1 + seed % 2)
        with (
            warnings.catch_warnings(action="ignore"),
            torch.backends.mkldnn.flags(enabled=seed // 2 % 2 == 0),
            inputs(seed),
        ):
            every = TERMS[seed % len(TERMS)]
            for item in chosen:
                table["plain"][bool(caught(item))] += 1
                if (found := alarm(item, PartialSums(every))) is not None:
                    table["sums in float32"][found] += 1
                if seed < len(TERMS):
                    short_sums(item, every, table)
        print(f"{seed + 1} seeds:", *map(shown, table.items()), sep="\n  ", flush=True)


def shown(found: tuple[str, collections.Counter[bool]]) -> str:
    """Return in one line how many checks found a right cell wrong."""
    return f"{found[0]}: {found[1][True]} wrong of {found[1].total()} checks"


SHORT = ("16-bit sums", "16-bit sums, declared")


def short_sums(item: pytest.Function, every: int, table: dict[str, Any]) -> None:
    """Check a cell of 16 bits with partial sums in its dtype, and once more where that is declared.

    The bound allows for a rounding every 16 terms.
    """
    dtype = dtypes.find(rows.given(item)["dtype"])
    if dtype.itemsize != 2 or every < 16:
        return
    for name in SHORT:
        with pytest.MonkeyPatch.context() as patch:
            if name == SHORT[1]:
                for module in (references, deviations):
                    patch.setattr(module, "sixteen_bit", lambda of, _: of.itemsize == 2)
            found = alarm(item, PartialSums(every, dtype), quiet=name == SHORT[0])
        if found is not None:
            table[name][found] += 1


def main() -> None:
    """Print caught of tried by benchmark and dtype, and what was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="")
    parser.add_argument("--dtype", action="append", default=[])
    parser.add_argument("--profile", default="default")
    parser.add_argument("--family", action="append", default=[])
    parser.add_argument("--breaks", action="append", choices=NAMES, default=[])
    parser.add_argument("--list", action="store_true", help="print each break that was missed")
    parser.add_argument("--seeds", type=int, default=0, help="break nothing, try other inputs")
    parser.add_argument("--limit-s", type=float, default=0.5, help="slower cells have one seed")
    asked = parser.parse_args()
    words = [f"--profile={asked.profile}", *(["-k", asked.k] if asked.k else [])]
    words += [f"--dtype={name}" for name in asked.dtype]
    words += [f"--family={name}" for name in asked.family]
    found = list(filter(small, cells(*words)))
    if asked.seeds:
        false_alarms(found, asked.seeds, asked.limit_s)
        return
    good = [item for item in found if caught(item) is False]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    print(f"{len(found)} cells, {len(good)} right without a fault")
    names = tuple(asked.breaks) or NAMES
    table: dict[tuple[str, str], dict[str, list[int]]] = {}
    missed = []
    for item, name, noticed in tried(good, names):
        dtype = rows.given(item)["dtype"]
        for key in (
            (f"{rows.family(item)}/{rows.benchmark(item)}", dtype),
            (rows.family(item), dtype),
        ):
            count = table.setdefault(key, collections.defaultdict(lambda: [0, 0]))
            for column in (name, "all"):
                count[column][0] += noticed
                count[column][1] += 1
        if not noticed:
            missed.append(f"missed: {item.name}: {name}")
    print("| benchmark | dtype | " + " | ".join([*names, "all"]) + " |")
    print("| --- " * (len(names) + 3) + "|")
    for (benchmark, dtype), count in sorted(table.items()):
        cells_ = [f"{count[n][0]}/{count[n][1]}" if count[n][1] else "" for n in (*names, "all")]
        print(f"| {benchmark} | {dtype} | " + " | ".join(cells_) + " |")
    if asked.list:
        print(*missed, sep="\n")


if __name__ == "__main__":
    main()
