"""The interval of the time that one call takes when nothing disturbs it, from disturbed rounds.

Only the rounds from which other processes took least are used. Disturbance only adds time. The
upper end is therefore that of the quickest visit, the lower end takes away what was lost: the time
that other processes took of each round, and the factor by which operations can be slower while
reference kernels are slower than at their best. Both ends are moved further by what other processes
of the same program differ (docs/method.md has the data).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import quantiles

#: Spread between processes of unchanged code on a quiet machine, on a log scale: half of the cells
#: are within 0.012 to 0.018, see docs/method.md.
SPREAD = 0.02
#: The same where nothing shows how much the rounds were disturbed: the 90 % quantile of the cells.
UNOBSERVED = 0.10


#: A round from which less than this share was taken is as good as one from which nothing was.
QUIET = 0.01


@dataclass(frozen=True)
class Sample:
    """The rounds of one visit: seconds of one call, and what is known of their disturbance.

    `stolen` is the share of each round that other processes took, `loss` the factor by which the
    rounds can be slower because reference kernels were. `observed` is False if nothing showed a
    disturbance that there may have been.
    """

    rounds_s: tuple[float, ...]
    stolen: tuple[float, ...]
    loss: float = 1.0
    observed: bool = True

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

    The upper end is that of the quickest visit, the lower end the highest of the visits that agree
    with it; their rounds together make the upper end more exact.
    """
    counted = [samples[i] for i in agreeing(samples)]
    together = tuple(s for sample in counted for s in sample.rounds_s)
    upper = min(
        Sample(together, (0.0,) * len(together)).upper, *(sample.upper for sample in samples)
    )
    best = max(counted, key=lambda sample: sample.lower)
    spread = SPREAD if best.observed else UNOBSERVED
    return best.lower * math.exp(-spread), upper * math.exp(spread)


def agreeing(samples: Sequence[Sample]) -> list[int]:
    """Return the visits that the quickest one does not contradict."""
    limit = min(sample.upper for sample in samples)
    firsts = [quantiles.quartiles(sample.rounds_s)[0] for sample in samples]
    return [i for i, first in enumerate(firsts) if first <= limit]
