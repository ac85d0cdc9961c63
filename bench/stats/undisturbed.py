"""The interval of the time that one call takes when nothing disturbs it, from disturbed rounds.

Only the rounds from which other processes took least are used, and none that is much longer than
the shortest ones. Disturbance only adds time. So the upper end is that of the fastest visit. The
lower end subtracts what was lost: the time that other processes took of each round, the cold caches
that they left, and the factor by which operations can be slower while the reference kernels are
slower than at their best. Both ends then move outwards by what processes of one program differ
(docs/validation.md has the data).
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.stats import quantiles

#: What a call on a quiet machine differs between processes, on a log scale, so that 93 % of the
#: intervals hold the quiet time (docs/validation.md). The second is for calls of `SHORT_S` or more
#: on several threads, the third for those that stream memory, start processes, or whose
#: disturbance nothing shows.
USUAL, PARALLEL, LARGEST = 0.025, 0.08, 0.12
SHORT_S = 1e-3
#: A round from which less than this share was taken is as good as one from which nothing was.
QUIET = 0.01
#: The rounds of a call on the host are within this factor of the shortest ones, and what processes
#: differ. Longer ones were disturbed, even if no counter shows it (docs/validation.md).
LONGEST = 1.1


class Round(NamedTuple):
    """The seconds of one call in a round, and the share of it that other processes took."""

    seconds: float
    stolen: float


@dataclass(frozen=True)
class Sample:
    """The rounds of one visit, and what is known of their disturbance.

    `loss` is the factor by which all rounds can be slower for other reasons. `spread` is by
    how much the time differs between processes, on a log scale. `longest` is the factor within
    which the rounds are when nothing disturbs them; infinite if that is unknown.
    """

    rounds: tuple[Round, ...]
    loss: float
    spread: float
    longest: float

    @functools.cached_property
    def rounds_s(self) -> tuple[float, ...]:
        """The seconds of one call in each round."""
        return tuple(one.seconds for one in self.rounds)

    @functools.cached_property
    def quiet(self) -> "Sample":
        """The rounds from which least was taken: less than `QUIET`, or a quarter of all rounds."""
        limit = max(QUIET, quantiles.quartiles([one.stolen for one in self.rounds])[0])
        return dataclasses.replace(self, rounds=tuple(r for r in self.rounds if r.stolen <= limit))

    def within(self, shortest_s: float) -> "Sample":
        """The rounds that are not much longer than the shortest ones of all visits."""
        limit = shortest_s * self.longest * math.exp(self.spread)
        return dataclasses.replace(self, rounds=tuple(r for r in self.rounds if r.seconds <= limit))

    @property
    def lower(self) -> float:
        """The first quartile of what is left of the rounds when all losses are taken away."""
        left = [one.seconds * (1 - one.stolen) for one in self.rounds]
        return quantiles.quartiles(left)[0] / self.loss


def _upper(rounds_s: Sequence[float]) -> float:
    """Return the upper end of the median's interval; the longest of few rounds."""
    interval = quantiles.median_interval(rounds_s)
    return interval[1] if interval else max(rounds_s)


def without_long(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples without rounds that are much longer than the shortest ones of all visits.

    A sample can be left without rounds, but not all can. The second shortest round counts, because
    one alone may be luck. The rounds of a single visit are not compared: something may have
    disturbed all of them.
    """
    if len(samples) < 2:
        return list(samples)
    shortest_s = sorted(s for sample in samples for s in sample.rounds_s)[1]
    return [sample.within(shortest_s) for sample in samples]


def interval(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the 95 % interval of the undisturbed time in seconds.

    The upper end is that of the fastest visit, or that of the rounds of all visits that agree with
    it, if this is lower. The lower end is the highest of the visits that agree.
    """
    counted = [samples[i] for i in agreeing(samples)]
    together = tuple(s for sample in counted for s in sample.rounds_s)
    upper = min(_upper(together), *(_upper(sample.rounds_s) for sample in samples))
    best = max(counted, key=lambda sample: sample.lower)
    return best.lower * math.exp(-best.spread), upper * math.exp(best.spread)


def agreeing(samples: Sequence[Sample]) -> list[int]:
    """Return the visits that the quickest one does not contradict."""
    limit = min(_upper(sample.rounds_s) for sample in samples)
    firsts = [quantiles.quartiles(sample.rounds_s)[0] for sample in samples]
    return [i for i, first in enumerate(firsts) if first <= limit]


def typical(samples: Sequence[Sample], high: float) -> list[int]:
    """Return the agreeing visits whose median is not above `high`, the end of the interval.

    The median of their rounds together is not above it either. A visit can agree and have most of
    its rounds disturbed: threads that share a core take a hundred times as long to synchronise.
    """
    return [i for i in agreeing(samples) if statistics.median(samples[i].rounds_s) <= high]
