"""Quartiles and the distribution-free interval of the median."""

import functools
import itertools
import math
import statistics
from collections.abc import Sequence


def quartiles(sample: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, interpolated linearly (Hyndman-Fan type 7)."""
    if len(sample) == 1:
        return sample[0], sample[0], sample[0]
    first, median, third = statistics.quantiles(sample, n=4, method="inclusive")
    return first, median, third


@functools.cache
def _rank(count: int) -> int:
    """Largest rank j for which the j-th smallest and j-th largest of `count` enclose the median."""
    tails = itertools.accumulate(math.comb(count, rank) / 2**count for rank in range(count + 1))
    return next(rank for rank, tail in enumerate(tails) if 2 * tail > 1 - 0.95)


def median_interval(sample: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the median from order statistics, or None from too few rounds.

    Distribution-free: the number of observations below the median is binomial with p = 1/2
    (Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2). Six rounds are the
    fewest that can give 95 %. Rounds of one process are correlated, so the interval holds for
    this process alone; compare runs for differences between processes.
    """
    rank = _rank(len(sample))
    if rank == 0:
        return None
    ordered = sorted(sample)
    return ordered[rank - 1], ordered[-rank]


def half_width(sample: Sequence[float]) -> float:
    """Half the 95 % interval of the median, relative to the median; infinite where unknown."""
    interval = median_interval(sample)
    if interval is None:
        return math.inf
    median = statistics.median(sample)
    return (interval[1] - interval[0]) / 2 / median if median > 0 else math.inf


def summary(rounds_s: Sequence[float]) -> dict[str, float | int | None]:
    """Return the columns of the CSV that follow from the seconds of each round; None if unknown."""
    first, median, third = quartiles(rounds_s)
    low, high = median_interval(rounds_s) or (None, None)
    return {
        "rounds": len(rounds_s),
        "min_s": min(rounds_s),
        "q1_s": first,
        "median_s": median,
        "q3_s": third,
        "max_s": max(rounds_s),
        "mean_s": statistics.fmean(rounds_s),
        "stddev_s": statistics.stdev(rounds_s) if len(rounds_s) > 1 else None,
        "ci_low_s": low,
        "ci_high_s": high,
    }
