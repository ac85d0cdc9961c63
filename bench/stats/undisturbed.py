"""The interval of the time that one call takes when nothing disturbs it, from disturbed rounds.

Only the rounds from which other processes took least are used. Disturbance only adds time. So the
upper end is that of the fastest visit. The lower end subtracts what was lost: the time that other
processes took of each round, and the factor by which operations can be slower while the reference
kernels are slower than at their best. Both ends then move outwards by what processes of one program
differ (docs/validation.md has the data).
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import quantiles

#: What a call on a quiet machine differs between processes, on a log scale, so that 93 % of the
#: intervals hold the quiet time (docs/validation.md). The second is for calls of `SHORT_S` or more
#: on several threads, the third for those that stream memory, start processes, or whose
#: disturbance nothing shows.
USUAL, PARALLEL, LARGEST = 0.025, 0.08, 0.12
SHORT_S = 1e-3


def spread(seconds: float, several_threads: bool) -> float:
    """Return by how much a call of so many seconds differs between processes, as a logarithm."""
    return PARALLEL if several_threads and seconds >= SHORT_S else USUAL


#: A round from which less than this share was taken is as good as one from which nothing was.
QUIET = 0.01


@dataclass(frozen=True)
class Sample:
    """The rounds of one visit: seconds of one call, and what is known of their disturbance.

    `stolen` is the share of each round that other processes took, `loss` the factor by which the
    rounds can be slower for other reasons. `spread` is by how much the time differs between
    processes, on a log scale.
    """

    rounds_s: tuple[float, ...]
    stolen: tuple[float, ...]
    loss: float = 1.0
    spread: float = USUAL

    @functools.cached_property
    def quiet(self) -> "Sample":
        """The rounds from which least was taken: less than `QUIET`, or a quarter of all rounds."""
        limit = max(QUIET, quantiles.quartiles(self.stolen)[0])
        kept = [(s, w) for s, w in zip(self.rounds_s, self.stolen, strict=True) if w <= limit]
        rounds_s, stolen = zip(*kept, strict=True)
        return dataclasses.replace(self, rounds_s=rounds_s, stolen=stolen)

    @property
    def upper(self) -> float:
        """The upper end of the median's interval; the longest of few rounds."""
        interval = quantiles.median_interval(self.rounds_s)
        return interval[1] if interval else max(self.rounds_s)

    @property
    def lower(self) -> float:
        """The first quartile of what is left of the rounds when all losses are taken away."""
        left = [s * (1 - w) for s, w in zip(self.rounds_s, self.stolen, strict=True)]
        return quantiles.quartiles(left)[0] / self.loss


def interval(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the 95 % interval of the undisturbed time in seconds.

    The upper end is that of the fastest visit, or that of the rounds of all visits that agree with
    it, if this is lower. The lower end is the highest of the visits that agree.
    """
    counted = [samples[i] for i in agreeing(samples)]
    together = tuple(s for sample in counted for s in sample.rounds_s)
    upper = min(
        Sample(together, (0.0,) * len(together)).upper, *(sample.upper for sample in samples)
    )
    best = max(counted, key=lambda sample: sample.lower)
    return best.lower * math.exp(-best.spread), upper * math.exp(best.spread)


def agreeing(samples: Sequence[Sample]) -> list[int]:
    """Return the visits that the quickest one does not contradict."""
    limit = min(sample.upper for sample in samples)
    firsts = [quantiles.quartiles(sample.rounds_s)[0] for sample in samples]
    return [i for i, first in enumerate(firsts) if first <= limit]


def typical(samples: Sequence[Sample], high: float) -> list[int]:
    """Return the agreeing visits whose median is not above `high`, the end of the interval.

    The median of their rounds together is not above it either. A visit can agree and have most of
    its rounds disturbed: threads that share a core take a hundred times as long to synchronise.
    """
    return [i for i in agreeing(samples) if statistics.median(samples[i].rounds_s) <= high]
