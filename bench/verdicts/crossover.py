"""Crossovers along a numeric param: the size from which one side is faster than the other."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.compare.estimates import Estimate, ratio
from bench.stats.ratios import Ratio

#: Fewest sizes of a sweep.
FEWEST = 3


@dataclass(frozen=True)
class Crossover:
    """The size at which the ratio of two sides passes 1, interpolated.

    `low` and `high` are the measured sizes that enclose it: there the sides differ significantly.
    `faster_above` is true if the candidate is faster above it.
    """

    size: float
    low: float
    high: float
    faster_above: bool


def _zero(sizes: list[float], logs: list[float]) -> float:
    """Return the size at which `logs`, of opposite signs at the ends, first pass 0."""
    points = list(zip(sizes, logs, strict=True))
    pairs = itertools.pairwise(points)
    (a, ya), (b, yb) = next((one, two) for one, two in pairs if one[1] * two[1] <= 0)
    return math.exp(math.log(a) + ya / (ya - yb) * math.log(b / a))


def by_size(
    candidate: Mapping[float, Estimate], base: Mapping[float, Estimate], among: int = 1
) -> dict[float, Ratio]:
    """Return the known ratios of two sides at common sizes, the smallest first."""
    sizes = sorted(candidate.keys() & base.keys())
    return {size: found for size in sizes if (found := ratio(candidate[size], base[size], among))}


def crossover(
    candidate: Mapping[float, Estimate], base: Mapping[float, Estimate], among: int = 1
) -> Crossover | str:
    """Return the size from which `candidate` is faster or slower than `base`.

    The logarithm of the ratio is interpolated between neighbouring common sizes. A crossover needs
    ratios in opposite directions that are significant among so many. Without one, the result is a
    word: the candidate is faster ``always`` or ``never``, or the sizes are ``unclear`` or
    ``too few``.
    """
    ratios, sure = by_size(candidate, base), by_size(candidate, base, among)
    if len(ratios) < FEWEST:
        return "too few"
    signs = [(-1 if r.high < 1 else 1 if r.low > 1 else 0) for r in sure.values()]
    clear = [sign for sign in signs if sign]
    if not clear:
        return "unclear"
    if len(set(clear)) == 1:
        if 0 in signs:
            return "unclear"
        return "always" if clear[0] < 0 else "never"
    # With several changes of direction there is no single crossover.
    if sum(a != b for a, b in itertools.pairwise(clear)) > 1:
        return "unclear"
    faster_above = clear[-1] < 0
    # It is between the last significant ratio before the change and the first after it; elsewhere
    # ratios pass 1 by chance.
    before = max(place for place, sign in enumerate(signs) if sign == clear[0])
    behind = min(place for place, sign in enumerate(signs) if sign == clear[-1])
    sizes = list(ratios)[before : behind + 1]
    found = _zero(sizes, [math.log(ratios[size].value) for size in sizes])
    return Crossover(found, sizes[0], sizes[-1], faster_above)
