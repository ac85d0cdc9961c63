"""Crossovers along a numeric param: the size from which one side is faster than the other."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.compare.estimates import Estimate, ratio


@dataclass(frozen=True)
class Crossover:
    """The size at which the ratio of two sides passes 1, with its interval.

    `faster_above` is true if the candidate is faster above it. `low` or `high` is None if that end
    of the interval is beyond the measured sizes.
    """

    size: float
    low: float | None
    high: float | None
    faster_above: bool


def _zero(sizes: list[float], logs: list[float]) -> float | None:
    """Return the size at which `logs` pass 0, interpolated in the logarithm of the size."""
    for (a, ya), (b, yb) in itertools.pairwise(zip(sizes, logs, strict=True)):
        if ya == 0:
            return a
        if ya * yb < 0:
            share = ya / (ya - yb)
            return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))
    return None


def crossover(
    candidate: Mapping[float, Estimate], base: Mapping[float, Estimate], among: int = 1
) -> Crossover | str:
    """Return the size at which `candidate` overtakes `base` or falls behind.

    The logarithm of the ratio is interpolated between neighbouring common sizes. The ends of its
    95 % interval give those of the crossover. A crossover needs ratios in opposite directions that
    are significant among so many. Without one, the result is a word: the candidate is faster
    ``always`` or ``never``, or the sizes are ``unclear`` or ``too few``.
    """
    sizes = sorted(size for size in candidate.keys() & base.keys() if size > 0)
    ratios = {size: r for size in sizes if (r := ratio(candidate[size], base[size]))}
    sizes = [size for size in sizes if size in ratios]
    if len(sizes) < 3:
        return "too few"
    sure = [r for size in sizes if (r := ratio(candidate[size], base[size], among))]
    signs = [(-1 if r.high < 1 else 1 if r.low > 1 else 0) for r in sure]
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
    sizes = sizes[before : behind + 1]
    found = [
        _zero(sizes, [math.log(getattr(ratios[size], end)) for size in sizes])
        for end in ("value", "low", "high")
    ]
    middle, *ends = found
    if middle is None:
        return "unclear"
    known = sorted(end for end in ends if end is not None)
    low = next((end for end in known if end <= middle), None)
    high = next((end for end in reversed(known) if end >= middle), None)
    return Crossover(middle, low, high, faster_above)
