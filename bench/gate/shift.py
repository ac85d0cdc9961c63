"""The shift of a whole machine between two sides, removed from the change of each cell."""

import bisect
import dataclasses
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from bench.compare.cells import grouped
from bench.records.schema import CellKey
from bench.stats import moderated
from bench.stats.moderated import Pair
from bench.stats.ratios import MAD_DEVIATIONS

#: Fewest cells of a device and dtype whose median change is the change of everything.
SHIFT_CELLS = 5
#: Least standard error of the median change: what all cells of a process have in common.
COMMON = 0.005

#: A device and a dtype.
Place = tuple[str, str]


class Shift(NamedTuple):
    """How much a machine changed, as a logarithm, and the variance of that.

    It is `measured` by the reference kernels, or estimated from the cells.
    """

    value: float
    variance: float = 0.0
    measured: bool = False


def measured(base: Sequence[float], new: Sequence[float]) -> Shift | None:
    """Return the shift that the reference kernels show, from their logarithm in each run."""
    found = moderated.pairs({"": base}, {"": new})
    if not found:
        return None
    (pair,) = found
    return Shift(pair.difference, pair.error**2, measured=True)


def shifted(
    found: Sequence[Pair],
    controls: Collection[CellKey] | None = None,
    known: Mapping[str, Shift] | None = None,
) -> tuple[list[Pair], dict[Place, Shift]]:
    """Remove the shift of the machine from each cell.

    It is that of the reference kernels on the devices for which it is `known`, and otherwise the
    median change of the other cells. If `controls` is given, only these cells count: the others
    were picked because they changed. Returns the cells, and the shift of each device and dtype.
    """
    made: list[Pair] = []
    shifts: dict[Place, Shift] = {}
    for place, group in grouped(found, lambda pair: pair.key.place).items():
        if known and place[0] in known:
            shifts[place] = known[place[0]]
            value, variance, _ = shifts[place]
            made += [dataclasses.replace(p, shift=value, between=variance) for p in group]
            continue
        own = {pair.key for pair in group if controls is None or pair.key in controls}
        if len(own) < SHIFT_CELLS:
            made += group
            continue
        ordered = sorted(pair.moved for pair in group if pair.key in own)
        shifts[place] = Shift(statistics.median(ordered))
        for pair in group:
            among = pair.key in own
            value = _median_without(ordered, pair.moved) if among else shifts[place].value
            made.append(dataclasses.replace(pair, shift=value))
    return made, shifts


def everything(group: Sequence[Pair], threshold: float, margin: float) -> float | None:
    """Return the median change of the cells of a place if all of it became slower, else None.

    It did if the median exceeds `threshold`, and `margin` by two standard errors. The machine's own
    shift has been removed from the cells.
    """
    if len(group) < SHIFT_CELLS:
        return None
    changes = [pair.difference for pair in group]
    middle = statistics.median(changes)
    spread = MAD_DEVIATIONS * (statistics.median(abs(y - middle) for y in changes))
    error = math.hypot(1.25 * spread / math.sqrt(len(group)), COMMON, math.sqrt(group[0].between))
    return middle if middle > threshold and middle > margin + 2 * error else None


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted numbers without one of them."""
    place, rest = bisect.bisect_left(ordered, value), len(ordered) - 1
    middle = (rest // 2,) if rest % 2 else (rest // 2 - 1, rest // 2)
    return statistics.fmean(ordered[i if i < place else i + 1] for i in middle)
