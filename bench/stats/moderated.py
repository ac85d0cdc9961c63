"""Runs as replicates: tests of trimmed means, whose variances borrow from all cells."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import digamma, fdtri, polygamma, stdtr, stdtrit

#: Share of the runs of a side that is trimmed at either end: one of five. A side is trimmed if a
#: run of it is so many standard deviations off: trimming costs power.
TRIMMED, OUTLIER = 0.2, 5.0
#: Fewest cells that inform each other's variance, and the most degrees of freedom they add.
PRIOR_CELLS, MOST_DEGREES = 10, 1e6
#: Numbers of runs, and variances of the sides, that differ by these factors are not pooled.
UNEQUAL_RUNS, UNEQUAL_NOISE = 1.5, 2.0
#: Most degrees of freedom of that factor: the outliers of few runs are beyond it.
RATIO_DEGREES = 10.0
#: Degrees of freedom of a variance between sessions: some cells differ by far more than others.
BETWEEN_DEGREES = 3.0
#: Fewest sessions that show by how much each cell differs between them, and the most degrees of
#: freedom of that: what differs between sessions has longer tails than a normal distribution.
FEWEST_SESSIONS, SESSION_DEGREES = 3, 5.0

#: Logarithms of one time in seconds for each run in which a cell was `ok`, by its key.
Times = Mapping[Any, Sequence[float]]


@dataclass(frozen=True)
class Prior:
    """The variance expected from the other cells, and its weight in degrees of freedom."""

    variance: float = 0.0
    degrees: float = 0.0

    def weighted(self, squares: float, degrees: float) -> tuple[float, float]:
        """Return a moderated variance and its degrees of freedom, from a cell's own squares."""
        both = degrees + self.degrees
        return (squares + self.degrees * self.variance) / both, both


@dataclass(frozen=True)
class Pair:
    """Logarithms of the runs' times of one cell on both sides, and their comparison.

    It compares trimmed means (K. K. Yuen and W. J. Dixon, Biometrika 60, 1973; without pooling: K.
    K. Yuen, Biometrika 61, 1974): sometimes a whole process is slow, and one such run among five
    must neither make nor hide a change. A side whose runs are all within `far` of its trimmed mean
    is not trimmed. `shift` is the part of the difference that is the machine's own. `between` is a
    variance of the difference that the runs of a side do not show. `priors` add the variance of the
    other cells (see `moderated`): one for both sides, or one for each, whose variances are then not
    pooled. `sessions`: the values are those of sessions (see `by_session`).
    """

    key: Any
    base: tuple[float, ...]
    new: tuple[float, ...]
    shift: float = 0.0
    between: float = 0.0
    priors: tuple[Prior, ...] = (Prior(),)
    sessions: bool = False
    far: float = 0.0

    @functools.cached_property
    def sides(self) -> tuple["Trimmed", "Trimmed"]:
        """Return the trimmed means of both sides."""
        return trimmed(self.base, self.far), trimmed(self.new, self.far)

    @property
    def level(self) -> float:
        """Return the logarithm of the seconds that the base takes."""
        return self.sides[0].mean

    @property
    def moved(self) -> float:
        """Return how much longer the new side took, as a logarithm, the shift included."""
        return self.sides[1].mean - self.sides[0].mean

    @property
    def difference(self) -> float:
        """Return how much longer the new side takes, as a logarithm."""
        return self.moved - self.shift

    @property
    def own_degrees(self) -> int:
        """Return the degrees of freedom of the cell's own variance, both sides pooled."""
        return sum(side.kept for side in self.sides) - 2

    @property
    def own_variance(self) -> float:
        """Return the variance of a run, both sides pooled, from this cell's runs alone."""
        return self.variance(Prior())[0]

    def variance(self, prior: Prior) -> tuple[float, float]:
        """Return the moderated variance of a run, both sides pooled, and its degrees of freedom."""
        return prior.weighted(sum(side.squares for side in self.sides), self.own_degrees)

    @functools.cached_property
    def _terms(self) -> list[tuple[float, float]]:
        """The variances that the difference is the sum of, with their degrees of freedom."""
        if len(self.priors) == 1:
            variance, degrees = self.variance(self.priors[0])
            degrees = min(degrees, SESSION_DEGREES) if self.sessions else degrees
            terms = [(variance * sum(1 / side.kept for side in self.sides), degrees)]
        else:
            terms = []
            for side, prior in zip(self.sides, self.priors, strict=True):
                variance, degrees = prior.weighted(side.squares, side.kept - 1)
                terms.append((variance / side.kept, degrees))
        return [*terms, *([(self.between, BETWEEN_DEGREES)] if self.between else [])]

    @property
    def degrees(self) -> float:
        """Return the degrees of freedom of the error."""
        return summed(self._terms)[1]

    @functools.cached_property
    def error(self) -> float:
        """Return the standard error of the difference."""
        return summed(self._terms)[0]

    def p_above(self, bound: float, sign: int) -> float:
        """Return the one-sided p-value of the difference if the true one is at most `bound`."""
        excess = sign * self.difference - bound
        if self.error == 0:
            return 0.0 if excess > 0 else 1.0
        return float(stdtr(self.degrees, -excess / self.error))

    def half(self) -> float:
        """Return half the 95 % interval of the difference."""
        return half(self._terms)

    def runs_needed(self, threshold: float) -> int | None:
        """Return how many runs per side would make the interval exclude `threshold`.

        None: no number would, because sessions differ by more.
        """
        if self.sessions:
            return None
        fixed = self.between
        kept = min(side.kept for side in self.sides)
        whole = min(len(self.base), len(self.new))
        spread = (self.error**2 - fixed) * kept
        for runs in range(whole + 1, 1000):
            left = runs - 2 * int(TRIMMED * runs) if kept < whole else runs
            degrees = self.degrees + 2 * (left - kept)
            half = float(stdtrit(degrees, 0.975)) * math.sqrt(spread / left + fixed)
            if half < math.log1p(threshold) / 2:
                return runs
        return None if fixed else 1000


def summed(terms: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the standard error and the degrees of freedom of a sum of independent terms.

    Of each term the variance and its degrees are given (F. E. Satterthwaite, Biometrics 2, 1946).
    """
    total = sum(variance for variance, _ in terms)
    if len(terms) == 1 or not total:
        return math.sqrt(total), terms[0][1]
    squares = sum(variance**2 / degrees for variance, degrees in terms if variance)
    return math.sqrt(total), total**2 / squares


def half(terms: Sequence[tuple[float, float]], upper: float = 0.975) -> float:
    """Return half the interval of a sum of terms, whose upper end is the quantile `upper`."""
    error, degrees = summed(terms)
    return float(stdtrit(degrees, upper)) * error if error else 0.0


@dataclass(frozen=True)
class Trimmed:
    """Mean of the values kept, how many they are, and the squares of the winsorized sample."""

    mean: float
    kept: int
    squares: float


def trimmed(sample: Sequence[float], far: float = 0.0) -> Trimmed:
    """Return the trimmed mean of a sample; the mean if it has fewer than five values.

    It is the mean too if no value is farther than `far` from the trimmed mean.
    """
    cut = int(TRIMMED * len(sample))
    ordered = sorted(sample)
    kept = ordered[cut : len(ordered) - cut]
    middle = statistics.fmean(kept)
    if max(ordered[-1] - middle, middle - ordered[0]) <= far:
        cut, kept = 0, ordered
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    middle = statistics.fmean(winsorized)
    return Trimmed(statistics.fmean(kept), len(kept), sum((y - middle) ** 2 for y in winsorized))


def prior(variances: Iterable[tuple[float, float]]) -> Prior:
    """Return what many variances, given with their degrees of freedom, share.

    Of fewer than ten, or of zeros, that is nothing. The variances are modelled as draws from a
    scaled inverse chi-squared distribution, whose scale and degrees of freedom follow from the mean
    and variance of their logarithms (G. K. Smyth, Statistical Applications in Genetics and
    Molecular Biology 3(1), 2004, section 6). With few runs a cell's own variance is mostly chance,
    and one that chance made large hides a slowdown.
    """
    known = list(variances)
    if len(known) < PRIOR_CELLS:
        return Prior()
    own, degrees = np.array(known).T
    half, usual = degrees / 2, float(np.median(own))
    if not usual:
        return Prior()
    # A variance of 0 comes from the clock's resolution; limma bounds it in this way too.
    logs = np.log(np.maximum(own, 1e-5 * usual)) + np.log(half) - digamma(half)
    beyond = float(logs.var(ddof=1) - polygamma(1, half).mean())
    level = float(logs.mean())
    if beyond <= 0:  # they differ by chance alone: all cells have the same variance
        return Prior(math.exp(level), MOST_DEGREES)
    halved = _trigamma_inverse(beyond)
    return Prior(math.exp(level + float(digamma(halved)) - math.log(halved)), 2 * halved)


def moderated(found: list[Pair]) -> list[Pair]:
    """Give each cell the prior variance that all cells together have.

    It shows which runs are outliers; sides without one are not trimmed. A cell gets a prior for
    each side if its sides have different numbers of runs, or if the sides of the suite differ in
    their noise. The prior of the side with fewer runs follows from the cell's noise on the other
    side, and from the factor between the noise of both sides over all cells.
    """
    both = prior((p.own_variance, p.own_degrees) for p in found)
    if both.degrees:
        far = [OUTLIER * math.sqrt(p.variance(both)[0]) for p in found]
        found = [dataclasses.replace(p, far=y) for p, y in zip(found, far, strict=True)]
        both = prior((p.own_variance, p.own_degrees) for p in found)
    more = int(sum(len(pair.new) for pair in found) > sum(len(pair.base) for pair in found))
    better, other = ([pair.sides[place] for pair in found] for place in (more, 1 - more))
    known = prior((side.squares / (side.kept - 1), side.kept - 1) for side in better)
    # A cell that is noisy on the side with more runs is so on the other one.
    noise = [known.weighted(side.squares, side.kept - 1)[0] for side in better]
    ratios = [
        side.squares / (side.kept - 1) / variance if variance else 0.0
        for side, variance in zip(other, noise, strict=True)
    ]
    times = prior(zip(ratios, (side.kept - 1 for side in other), strict=True))
    apart = bool(times.degrees) and not 1 / UNEQUAL_NOISE <= times.variance <= UNEQUAL_NOISE
    made = []
    for pair, variance in zip(found, noise, strict=True):
        few, many = sorted((len(pair.base), len(pair.new)))
        each = [known, Prior(times.variance * variance, min(times.degrees, RATIO_DEGREES))]
        unequal = apart or many >= UNEQUAL_RUNS * few
        priors = tuple(each[:: -1 if more else 1]) if unequal else (both,)
        made.append(dataclasses.replace(pair, priors=priors))
    return made


def by_session(found: Sequence[Pair], base: Sequence[Times]) -> list[Pair]:
    """Return the cells with the sessions of the base as replicates, and the new side as one more.

    Each cell then has its own variance between sessions, moderated by that of the others. If the
    runs of the new side are noisier or fewer than those of a session of the base, that is added. A
    cell that few sessions have gets the variance of the others. `found` are `moderated` pairs.
    """
    made, few = [], []
    for pair in found:
        parts = [trimmed(s[pair.key], pair.far) for s in base if s.get(pair.key)]
        if len(parts) < FEWEST_SESSIONS:
            few.append(pair)
            continue
        further = pair.between
        if len(pair.priors) > 1:
            (old, _), (new, _), *_ = pair._terms
            run = old * pair.sides[0].kept
            further += max(0.0, new - run * statistics.fmean(1 / part.kept for part in parts))
        means = tuple(part.mean for part in parts), (pair.sides[1].mean,)
        made.append(Pair(pair.key, *means, pair.shift, further, sessions=True))
    own = prior((p.own_variance, p.own_degrees) for p in made)
    return [
        *(dataclasses.replace(pair, priors=(own,)) for pair in made),
        *(dataclasses.replace(pair, between=pair.between + 2 * own.variance) for pair in few),
    ]


def between(found: Sequence[Pair], expected: bool = False) -> float:
    """Return by what variance the differences of cells vary beyond what their runs explain.

    With it, half of the squared differences exceed the median of their F distribution (as the
    empirical null of B. Efron, Journal of the American Statistical Association 99, 2004, which
    leaves out the cells that changed). Fewer than ten cells show none, and what may be chance is
    none unless it is `expected`.
    """
    if len(found) < PRIOR_CELLS:
        return 0.0
    squares = np.array([pair.difference**2 for pair in found])
    errors = np.array([pair.error**2 for pair in found])
    usual = fdtri(1, np.array([pair.degrees for pair in found]), 0.5)
    # The variance with which each squared difference is the median of its distribution.
    needed = np.sort(squares / usual - errors)
    half = len(found) / 2
    # Two standard errors of a half are chance.
    if (needed > 0).sum() <= half + (0.0 if expected else math.sqrt(len(found))):
        return 0.0
    return float(needed[(len(found) - 1) // 2])


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
