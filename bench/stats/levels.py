"""Processes in two states: the levels of a cell's times, and how often chance alone separates them.

A process may find another layout of its memory or other cores than the one before, and stay there.
Its times then lie on one of two levels, and the few runs of a side may all be on one of them.
"""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

#: Two levels are this many standard deviations of the values around them apart.
APART = 5.0


@dataclass(frozen=True)
class Levels:
    """Two levels of logarithms of times, and the share of the runs on the higher one."""

    low: float
    high: float
    share: float

    @property
    def gap(self) -> float:
        """Return how far the levels are apart."""
        return self.high - self.low


def find(*sides: Sequence[float]) -> Levels | None:
    """Return the two levels on which runs of one side or more lie, None if there is one level.

    The split makes the sum of squares smallest (W. D. Fisher, Journal of the American Statistical
    Association 53, 1958). If each side has a level of its own, nothing shows two states.
    """
    ordered = sorted(y for side in sides for y in side)
    if len(ordered) < 4:
        return None
    total, squares = np.cumsum(ordered), np.cumsum(np.square(ordered))
    places = np.arange(1, len(ordered))
    left = squares[:-1] - total[:-1] ** 2 / places
    right = squares[-1] - squares[:-1] - (total[-1] - total[:-1]) ** 2 / places[::-1]
    cut = int(np.argmin(left + right)) + 1
    best = float((left + right).min())
    low, high = statistics.fmean(ordered[:cut]), statistics.fmean(ordered[cut:])
    middle = (ordered[cut - 1] + ordered[cut]) / 2
    within = math.sqrt(max(best, 0.0) / (len(ordered) - 2))
    mixed = any(min(side) < middle < max(side) for side in sides if side)
    if not mixed or high - low < APART * within:
        return None
    return Levels(low, high, 1 - cut / len(ordered))


@functools.cache
def chance(base: int, new: int, astray: int) -> float:
    """Return how often chance separates a cell in two states, with so many runs `astray` at most.

    That is, all `base` runs but some are on one given level and all `new` runs but some on the
    other one. The share of the higher level is the one for which this is most likely.
    """
    shares = np.linspace(0.01, 0.99, 99)
    found = np.zeros_like(shares)
    for high in range(min(astray, base) + 1):
        here = math.comb(base, high) * shares**high * (1 - shares) ** (base - high)
        found += here * bdtr(astray - high, new, 1 - shares)
    return float(found.max())


def weight(levels: Levels, base: int, new: int) -> float:
    """Return how likely these levels are to be separated, relative to the likeliest share."""
    likely = levels.share**new * (1 - levels.share) ** base
    return min(1.0, likely / chance(base, new, 0)) if likely else 0.0


def runs_needed(cells: float, limit: float) -> int:
    """Return how many runs per side make a separation by chance in `cells` cells unlikely."""
    return max(1, math.ceil(math.log(max(1.0, cells / limit)) / math.log(4)))
