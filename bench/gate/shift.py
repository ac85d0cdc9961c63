"""The shift of a whole machine between two sides, removed from the change of each cell."""

import bisect
import dataclasses
import statistics
from collections.abc import Collection, Sequence

from bench.records.schema import CellKey
from bench.stats.moderated import Pair

#: Fewest cells of a device and dtype whose median change estimates a shift of the machine.
SHIFT_CELLS = 5


def shifted(
    found: list[Pair], controls: Collection[CellKey] | None = None
) -> tuple[list[Pair], dict[tuple[str, str], float]]:
    """Remove the shift of the machine from each cell: the median change of the other cells.

    If `controls` is given, the shift is that of these cells alone: the others were picked because
    they changed. Returns the cells, and the shift of each device and dtype with enough of them.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        groups.setdefault((pair.key.device, pair.key.dtype), []).append(pair)
    made, shifts = [], {}
    for place, group in groups.items():
        own = {pair.key for pair in group if controls is None or pair.key in controls}
        if len(own) < SHIFT_CELLS:
            made += group
            continue
        ordered = sorted(pair.difference for pair in group if pair.key in own)
        shifts[place] = statistics.median(ordered)
        for pair in group:
            among = pair.key in own
            shift = _median_without(ordered, pair.difference) if among else shifts[place]
            moved = tuple(y - shift for y in pair.new)
            made.append(dataclasses.replace(pair, new=moved))
    return made, shifts


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted numbers without one of them."""
    place, rest = bisect.bisect_left(ordered, value), len(ordered) - 1
    middle = (rest // 2,) if rest % 2 else (rest // 2 - 1, rest // 2)
    return statistics.fmean(ordered[i if i < place else i + 1] for i in middle)
