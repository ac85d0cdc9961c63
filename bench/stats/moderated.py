"""Runs as replicates: tests of trimmed means, with variances that borrow from the other cells."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import digamma, polygamma, stdtr, stdtrit

#: Share of the runs of a side that is trimmed at either end: one of five.
TRIMMED = 0.2
#: Fewest cells that inform each other's variance, and the most degrees of freedom they add.
PRIOR_CELLS, MOST_DEGREES = 10, 1e6

#: Logarithms of one time in seconds for each run in which a cell was `ok`, by its key.
Times = Mapping[Any, Sequence[float]]


@dataclass(frozen=True)
class Prior:
    """The variance expected from the other cells, and its weight in degrees of freedom."""

    variance: float = 0.0
    degrees: float = 0.0


@dataclass(frozen=True)
class Pair:
    """Logarithms of the runs' times of one cell on both sides, and their comparison.

    It compares trimmed means (K. K. Yuen and W. J. Dixon, Biometrika 60, 1973): sometimes a whole
    process is slow, and one such run among five must neither make nor hide a change. `prior` adds
    the variance of the other cells (see `moderated`).
    """

    key: Any
    base: tuple[float, ...]
    new: tuple[float, ...]
    prior: Prior = Prior()

    @functools.cached_property
    def _sides(self) -> list["_Trimmed"]:
        return [_trimmed(self.base), _trimmed(self.new)]

    @property
    def level(self) -> float:
        """Return the logarithm of the seconds that the base takes."""
        return self._sides[0].mean

    @property
    def difference(self) -> float:
        """Return how much longer the new side takes, as a logarithm."""
        return self._sides[1].mean - self._sides[0].mean

    @property
    def own_degrees(self) -> int:
        """Return the degrees of freedom of the cell's own variance."""
        return sum(side.kept for side in self._sides) - 2

    @property
    def own_variance(self) -> float:
        """Return the variance of a run, both sides pooled, from this cell's runs alone."""
        return sum(side.squares for side in self._sides) / self.own_degrees

    @property
    def degrees(self) -> float:
        """Return the degrees of freedom of the variance."""
        return self.own_degrees + self.prior.degrees

    @functools.cached_property
    def variance(self) -> float:
        """Return the moderated variance of a run: its own and the prior one, weighted."""
        own = self.own_degrees * self.own_variance
        return (own + self.prior.degrees * self.prior.variance) / self.degrees

    @functools.cached_property
    def error(self) -> float:
        """Return the standard error of the difference."""
        return math.sqrt(self.variance * sum(1 / side.kept for side in self._sides))

    def p_above(self, bound: float, sign: int) -> float:
        """Return the one-sided p-value of the difference if the true one is at most `bound`."""
        excess = sign * self.difference - bound
        if self.error == 0:
            return 0.0 if excess > 0 else 1.0
        return float(stdtr(self.degrees, -excess / self.error))

    def half(self) -> float:
        """Return half the 95 % interval of the difference."""
        return float(stdtrit(self.degrees, 0.975)) * self.error if self.error else 0.0

    def runs_needed(self, threshold: float) -> int:
        """Return how many runs per side would make the interval exclude `threshold`."""
        extra = self.prior.degrees
        for runs in range(len(self.new) + 1, 1000):
            kept = runs - 2 * int(TRIMMED * runs)
            half = float(stdtrit(2 * kept - 2 + extra, 0.975)) * math.sqrt(2 * self.variance / kept)
            if half < math.log1p(threshold) / 2:
                return runs
        return 1000


@dataclass(frozen=True)
class _Trimmed:
    """Mean of the values kept, how many they are, and the squares of the winsorized sample."""

    mean: float
    kept: int
    squares: float


def _trimmed(sample: Sequence[float]) -> _Trimmed:
    cut = int(TRIMMED * len(sample))
    ordered = sorted(sample)
    kept = ordered[cut : len(ordered) - cut]
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    middle = statistics.fmean(winsorized)
    return _Trimmed(statistics.fmean(kept), len(kept), sum((y - middle) ** 2 for y in winsorized))


def moderated(found: list[Pair]) -> list[Pair]:
    """Give each cell the prior variance that all cells together have.

    The variances are modelled as draws from a scaled inverse chi-squared distribution, whose scale
    and degrees of freedom follow from the mean and variance of their logarithms (G. K. Smyth,
    Statistical Applications in Genetics and Molecular Biology 3(1), 2004, section 6). With few
    runs a cell's own variance is mostly chance, and one that chance made large hides a slowdown.
    """
    usual = statistics.median(pair.own_variance for pair in found) if found else 0.0
    if len(found) < PRIOR_CELLS or usual == 0:
        return found
    half = np.array([pair.own_degrees / 2 for pair in found])
    # A variance of 0 comes from the clock's resolution; limma bounds it in this way too.
    logs = np.log([max(pair.own_variance, 1e-5 * usual) for pair in found])
    logs += np.log(half) - digamma(half)
    beyond = float(logs.var(ddof=1) - polygamma(1, half).mean())
    level = float(logs.mean())
    if beyond > 0:
        halved = _trigamma_inverse(beyond)
        prior = Prior(math.exp(level + float(digamma(halved)) - math.log(halved)), 2 * halved)
    else:  # they differ by chance alone: all cells have the same variance
        prior = Prior(math.exp(level), MOST_DEGREES)
    return [dataclasses.replace(pair, prior=prior) for pair in found]


def _trigamma_inverse(value: float) -> float:
    """Return the inverse of the trigamma function, by Newton's method (Smyth's appendix)."""
    place = 0.5 + 1 / value
    for _ in range(50):
        there = float(polygamma(1, place))
        step = there * (1 - there / value) / float(polygamma(2, place))
        place += step
        if abs(step) < 1e-8 * place:
            break
    return place


def pairs(base: Times, new: Times, fewest: int = 2) -> list[Pair]:
    """Return the cells that both sides have; a variance needs two runs per side."""
    both = [key for key in base if key in new and min(len(base[key]), len(new[key])) >= fewest]
    return [Pair(key, tuple(base[key]), tuple(new[key])) for key in both]
