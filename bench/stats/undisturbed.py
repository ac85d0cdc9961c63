"""The interval of the time that one call takes when nothing disturbs it, from disturbed rounds.

Disturbance only adds time. The upper end is therefore that of the quickest visit, the lower end
takes away what was lost: the time that other processes took of each round, and the factor by which
reference kernels were slower than at their best. Both ends are moved further by what other
processes of the same program differ (docs/method.md has the data).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import quantiles

#: Spread between processes of unchanged code on a quiet machine, on a log scale: half of the cells
#: are within 0.012 to 0.018, see docs/method.md.
SPREAD = 0.02
#: The same where nothing shows how much the rounds were disturbed: the 90 % quantile of the cells.
UNOBSERVED = 0.10


@dataclass(frozen=True)
class Sample:
    """The rounds of one visit: seconds of one call, and what is known of their disturbance.

    `stolen` is the share of each round that other processes took, `slowdown` the factor by which
    reference kernels were slower than their best. `spread` is how much the speed of the machine
    changes between visits, on a log scale. `observed` is False if nothing showed a disturbance
    that there may have been.
    """

    rounds_s: tuple[float, ...]
    stolen: tuple[float, ...]
    slowdown: float = 1.0
    spread: float = 0.0
    observed: bool = True

    @property
    def upper(self) -> float:
        """The upper end of the median's interval; the longest of few rounds."""
        interval = quantiles.median_interval(self.rounds_s)
        return interval[1] if interval else max(self.rounds_s)

    @property
    def lower(self) -> float:
        """The first quartile of what is left of the rounds when all losses are taken away."""
        left = [s * (1 - w) for s, w in zip(self.rounds_s, self.stolen, strict=True)]
        return quantiles.quartiles(left)[0] / self.slowdown


def interval(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the 95 % interval of the undisturbed time in seconds, from the quickest visit.

    The rounds of the visits that agree with it make the upper end more exact.
    """
    best = min(samples, key=lambda sample: sample.upper)
    together = [s for i in agreeing(samples) for s in samples[i].rounds_s]
    upper = min(best.upper, Sample(tuple(together), (0.0,) * len(together)).upper)
    below = SPREAD if best.observed else UNOBSERVED
    above = max(best.spread, below)
    return best.lower * math.exp(-below), upper * math.exp(above)


def agreeing(samples: Sequence[Sample]) -> list[int]:
    """Return the visits that the quickest one does not contradict."""
    limit = min(sample.upper for sample in samples)
    firsts = [quantiles.quartiles(sample.rounds_s)[0] for sample in samples]
    return [i for i, first in enumerate(firsts) if first <= limit]


def spread(seconds: Sequence[float]) -> float:
    """Return half the range of the middle 80 % of some times, on a log scale; 0 from one."""
    if len(seconds) < 2:
        return 0.0
    logs = sorted(map(math.log, seconds))
    low, high = (statistics.quantiles(logs, n=10, method="inclusive")[i] for i in (0, 8))
    return (high - low) / 2
