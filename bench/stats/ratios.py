"""Ratios of times: their intervals, their mean, and changes as a share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Standard deviations of a normal distribution in one median absolute deviation (F. R. Hampel,
#: Journal of the American Statistical Association 69, 1974).
MAD_DEVIATIONS = 1.4826


@dataclass(frozen=True)
class Ratio:
    """How many times as long one side takes as the other, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 1."""
        return self.low > 1 or self.high < 1

    @property
    def factor(self) -> float:
        """How many times as long the slower side takes."""
        return max(self.value, 1 / self.value)

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low > 0 and not math.isinf(self.high)


def variance(sample: Sequence[float]) -> float:
    """Return the unbiased variance of two values or more."""
    mean = sum(sample) / len(sample)
    return sum([(x - mean) ** 2 for x in sample]) / (len(sample) - 1)


def mean(ratios: Sequence[Ratio]) -> Ratio | None:
    """Return the geometric mean of ratios, and that of each end of their intervals: a wide one.

    It is the only mean of ratios that does not depend on the base (P. J. Fleming and J. J. Wallace,
    "How not to lie with statistics", CACM 29(3), 1986).
    """
    if not ratios:
        return None

    with np.errstate(divide="ignore", over="ignore"):  # an end may be 0 or infinite
        logs = np.log([(r.value, r.low, r.high) for r in ratios])
        return Ratio(*np.exp(logs.mean(axis=0)).tolist())


def relative(difference: float) -> float:
    """Return a difference of logarithms as a share: 0.1 is 10 % more; large ones are capped."""
    return math.expm1(min(difference, 700.0))
