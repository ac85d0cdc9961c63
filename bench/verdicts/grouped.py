"""What a dtype or a device gains or costs in each group of benchmarks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.compare import benchmarks, cells, estimates
from bench.compare.cells import Cell
from bench.stats.ratios import Ratio, mean
from bench.verdicts.finding import Finding, Subject, compared, notable

#: Dtypes by precision: the CPU may do the work of a cell in the same dtype or a more precise one.
_RIVALS = {
    "float64": ("float64",),
    "float32": ("float32",),
    "float16": ("float32", "bfloat16", "float16"),
    "bfloat16": ("float32", "bfloat16", "float16"),
}


@dataclass(frozen=True, kw_only=True)
class Several(Finding):
    """Ratios of the cells of one group: `ratio` is their geometric mean.

    Cells that are not settled count too, with their wide intervals: otherwise noise would choose
    the cells, and with them the mean. Its interval is as wide as if all errors had one cause. Pairs
    of which only one end is known do not count; `n` of `total` do, and without any the ratio is
    None. `best` and `worst` are the cells with the smallest and the largest ratio, None unless the
    difference is notable among all that were compared. `exceeded`: another cell may be beyond
    them. `error` is the median relative error of the answers. `advice` is `faster`, `slower`,
    `same` or `unclear`.
    """

    group: str
    best: tuple[Subject, Ratio] | None
    worst: tuple[Subject, Ratio] | None
    exceeded: bool
    error: float | None = None


_Pair = tuple[Cell, Cell]


def dtypes(found: list[Cell]) -> Iterator[Several]:
    """Compare float16 and bfloat16 with float32 on the same device, by group."""
    yield from _several(pairs_of_dtypes(found), topic="dtype group")


def pairs_of_dtypes(found: list[Cell]) -> list[_Pair]:
    """Return each cell in float16 or bfloat16 with that in float32 on its device."""
    return [
        (cell, base)
        for group in cells.alike(found, "dtype")
        for base in group
        if base.dtype == "float32"
        for cell in group
        if cell.dtype in ("float16", "bfloat16")
    ]


def devices(found: list[Cell], base: str = "") -> Iterator[Finding]:
    """Compare each device with `base`, by group; see `pairs_of_devices`."""
    yield from _several(pairs_of_devices(found, base), topic="device group")


def pairs_of_devices(found: list[Cell], base: str = "") -> list[_Pair]:
    """Return each cell of another device with the cell in which `base` does its work fastest.

    By default `base` is the CPU, or the first device if nothing was timed on the CPU.
    """
    timed = dict.fromkeys(cell.device for cell in found if cell.estimate.likely)
    base = base or ("cpu" if "cpu" in timed else next(iter(timed), ""))
    pairs = []
    for group in cells.alike(found, "device", "dtype"):
        host = {cell.dtype: cell for cell in group if cell.device == base and cell.estimate.likely}
        for cell in group:
            names = _RIVALS.get(cell.dtype, (cell.dtype,))
            rivals = [host[name] for name in names if name in host]
            if cell.device != base and rivals:
                pairs.append((cell, min(rivals, key=lambda c: c.estimate.likely or math.inf)))
    return pairs


def _several(pairs: list[_Pair], topic: str) -> Iterator[Several]:
    """Yield a finding for each device, dtype and group, in the order of the answers."""
    # What was refused, wrong or not timed is the answer to another question.
    timed = [pair for pair in pairs if all(cell.estimate.likely for cell in pair)]
    lines = cells.grouped(timed, _line)
    for key in sorted(lines, key=_place):
        yield _one(topic, key, lines[key], len(lines), len(timed))


def _line(pair: _Pair) -> tuple[str, str, str]:
    cell, _ = pair
    return cell.device, cell.dtype, benchmarks.group(cell.family, cell.benchmark)


def _place(key: tuple[str, str, str]) -> tuple[Any, ...]:
    """Return the place of a device, dtype and group: float32 first."""
    device, dtype, group = key
    return device, dtype != "float32", dtype, *benchmarks.place(group)


def _one(
    topic: str, key: tuple[str, str, str], pairs: list[_Pair], lines: int, every: int
) -> Several:
    def ratios(among: int) -> list[Ratio]:
        made = (estimates.ratio(c.estimate, b.estimate, among) for c, b in pairs)
        return [ratio for ratio in made if ratio and ratio.bounded]

    counted = ratios(1)
    shown, claimed = mean(counted), mean(ratios(lines))
    known = [
        (Subject.of(cell), ratio) for cell, base in pairs if (ratio := compared(cell, base, every))
    ]
    faster = [one for one in known if one[1].value < 1]
    slower = [one for one in known if one[1].value > 1]
    best = min(faster, key=lambda one: one[1].value, default=None)
    worst = max(slower, key=lambda one: one[1].value, default=None)
    errors = sorted(c.rel_error for c, _ in pairs if c.rel_error is not None)
    settled = all(cell.settled and base.settled for cell, base in pairs)
    return Several(
        topic=topic,
        subject=Subject(*key[:2]),
        rival=Subject(pairs[0][1].device, key[1] if topic == "device group" else "float32"),
        advice=_advice(shown, claimed),
        ratio=shown,
        n=len(counted),
        total=len(pairs),
        group=key[2],
        best=best,
        worst=worst,
        exceeded=not settled,
        error=errors[len(errors) // 2] if errors else None,
    )


def _advice(shown: Ratio | None, claimed: Ratio | None) -> str:
    if shown is None or claimed is None:
        return "unclear"
    if notable(claimed):
        return "faster" if shown.value < 1 else "slower"
    return "same" if not notable(shown) and shown.low > 1 / 1.5 and shown.high < 1.5 else "unclear"
