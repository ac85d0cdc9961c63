"""The shift of a whole machine between two sides, taken out of the change of each cell."""

import bisect
import dataclasses
import statistics
from collections.abc import Collection, Sequence

from bench.stats.moderated import Key, Pair

#: Cells of a device and dtype from which on their median tells a shift of the machine.
SHIFT_CELLS = 5


def shifted(
    found: list[Pair], still: Collection[Key] | None = None
) -> tuple[list[Pair], dict[tuple[str, str], float]]:
    """Take the shift of the machine out of each cell: the median change of the others.

    Of those in `still` alone, where the rest were picked for having moved. Returns the cells and
    the shift of each device and dtype that has enough of them.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        groups.setdefault((pair.key[2], pair.key[3]), []).append(pair)
    made, shifts = [], {}
    for place, group in groups.items():
        calm = {pair.key for pair in group if still is None or pair.key in still}
        if len(calm) < SHIFT_CELLS:
            made += group
            continue
        ordered = sorted(pair.difference for pair in group if pair.key in calm)
        shifts[place] = statistics.median(ordered)
        for pair in group:
            among = pair.key in calm
            shift = _median_without(ordered, pair.difference) if among else shifts[place]
            moved = tuple(y - shift for y in pair.new)
            made.append(dataclasses.replace(pair, new=moved))
    return made, shifts


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted numbers less one of them."""
    place, rest = bisect.bisect_left(ordered, value), len(ordered) - 1
    middle = (rest // 2,) if rest % 2 else (rest // 2 - 1, rest // 2)
    return statistics.fmean(ordered[i if i < place else i + 1] for i in middle)
