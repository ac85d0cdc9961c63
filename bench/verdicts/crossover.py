"""Crossovers along a numeric param: from which size on one side is faster than the other."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.compare.estimates import Estimate, ratio


@dataclass(frozen=True)
class Crossover:
    """Where the ratio of two sides passes 1, with its interval; sizes are those of the param.

    `faster_above` tells whether the candidate is faster above it. `low` or `high` is None where the
    interval leaves what was measured.
    """

    size: float
    low: float | None
    high: float | None
    faster_above: bool


def _zero(sizes: list[float], logs: list[float]) -> float | None:
    """Return where `logs` pass 0, interpolated linearly in the logarithm of the size."""
    for (a, ya), (b, yb) in itertools.pairwise(zip(sizes, logs, strict=True)):
        if ya == 0:
            return a
        if ya * yb < 0:
            share = ya / (ya - yb)
            return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))
    return None


def crossover(
    candidate: Mapping[float, Estimate], base: Mapping[float, Estimate]
) -> Crossover | str:
    """Return where `candidate` overtakes `base` (or falls behind) along their common sizes.

    The logarithm of the ratio is interpolated between neighbouring sizes, and so are the ends of
    its 95 % interval, which give those of the crossover. Only a change between significant ratios
    of opposite directions is one. Otherwise the result says in a word what was seen: ``always`` the
    candidate is faster, ``never``, ``unclear``, or ``too few`` sizes.
    """
    sizes = sorted(size for size in candidate.keys() & base.keys() if size > 0)
    ratios = {size: r for size in sizes if (r := ratio(candidate[size], base[size]))}
    sizes = [size for size in sizes if size in ratios]
    if len(sizes) < 3:
        return "too few"
    signs = [(-1 if r.high < 1 else 1 if r.low > 1 else 0) for r in map(ratios.get, sizes) if r]
    clear = [sign for sign in signs if sign]
    if not clear:
        return "unclear"
    if len(set(clear)) == 1:
        if 0 in signs:
            return "unclear"
        return "always" if clear[0] < 0 else "never"
    # More than one change of direction is no crossover that a sentence could tell.
    if sum(a != b for a, b in itertools.pairwise(clear)) > 1:
        return "unclear"
    faster_above = clear[-1] < 0
    # Between the last significant ratio before the change and the first behind it; elsewhere
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
    # The optimistic end of the ratio passes 1 first where the candidate gets faster with the size.
    low = next((end for end in known if end <= middle), None)
    high = next((end for end in reversed(known) if end >= middle), None)
    return Crossover(middle, low, high, faster_above)
