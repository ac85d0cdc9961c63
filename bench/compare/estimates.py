"""What is known of a cell on one side, and the ratio of two sides with its interval."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtrit

#: Between fresh processes of unchanged code a median moves by this much in one cell of ten (see
#: docs/method.md): from a single run a side, less than that is no difference.
NOISE = math.log(1.10)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """Medians of the runs of one cell on one side, in seconds; `status` where there is none.

    `low` and `high` are the 95 % interval: of the mean over runs on a log scale, or of the median
    within the only run.
    """

    medians: tuple[float, ...]
    low: float | None
    high: float | None
    status: str
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """Geometric mean of the runs' medians."""
        if not self.medians:
            return None
        return math.exp(math.fsum(map(math.log, self.medians)) / len(self.medians))


@dataclass(frozen=True)
class Ratio:
    """How many times as long one side takes as the other, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.low > 1 or self.high < 1


@functools.cache
def _student(degrees: int) -> float:
    """Quantile of Student's distribution for a two-sided interval."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def _variance(sample: Sequence[float]) -> float:
    mean = sum(sample) / len(sample)
    return sum([(x - mean) ** 2 for x in sample]) / (len(sample) - 1)


def _log_interval(logs: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean of `logs` (two or more)."""
    count = len(logs)
    mean = math.fsum(logs) / count
    half = _student(count - 1) * math.sqrt(_variance(logs) / count)
    return mean - half, mean + half


def ratio(side: Estimate, base: Estimate) -> Ratio | None:
    """Return `side` over `base`, or None where one of them has no time.

    With two runs or more a side it is Welch's interval of the difference of mean logarithms (B. L.
    Welch, Biometrika 34, 1947): runs are the replicates. With a single run on a side nothing is
    known of the noise between its processes, and `NOISE` stands for it, a 90 % quantile, beside the
    intervals within the runs.
    """
    if not side.medians or not base.medians:
        return None
    a, b = [math.log(x) for x in side.medians], [math.log(x) for x in base.medians]
    difference = math.fsum(a) / len(a) - math.fsum(b) / len(b)
    if len(a) > 1 and len(b) > 1:
        va, vb = _variance(a) / len(a), _variance(b) / len(b)
        if va + vb > 0:
            degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
            half = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * math.sqrt(va + vb)
        else:
            half = 0.0
    else:
        half = math.hypot(NOISE, _half_width(side), _half_width(base))
    if not abs(difference) + half < 700:  # beyond what a float holds: a file that was edited
        return None
    return Ratio(*(math.exp(difference + off) for off in (0, -half, half)))


def _half_width(estimate: Estimate) -> float:
    """Half the interval within a run, on a log scale; 0 where it is not known."""
    if estimate.low is None or estimate.high is None or not 0 < estimate.low <= estimate.high:
        return 0.0
    return (math.log(estimate.high) - math.log(estimate.low)) / 2


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """Return the geometric mean, the only mean of ratios that does not depend on the base.

    P. J. Fleming and J. J. Wallace, "How not to lie with statistics", CACM 29(3), 1986.
    """
    if not ratios:
        return None
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


#: The status that stands for a cell whose runs differ: the worst of those without a usable time.
_WORST = ("wrong", "error", "oom", "unsupported", "fallback", "unstable", "ok")


def by_group(
    frame: pd.DataFrame, rows: Sequence[str], sides: Sequence[str]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Estimate]:
    """Return the estimate of each pair of row and side that the frame has."""
    keys = [*rows, *sides]
    needed = ["status", "reason", "median_s", "ci_low_s", "ci_high_s"]
    groups: dict[tuple[str, ...], list[list[object]]] = {}
    for key, values in zip(
        frame[keys].to_numpy().tolist(), frame[needed].to_numpy().tolist(), strict=True
    ):
        groups.setdefault(tuple(key), []).append(values)
    cut = len(rows)
    return {(key[:cut], key[cut:]): _estimate(found) for key, found in groups.items()}


def _estimate(found: list[list[object]]) -> Estimate:
    ok = [row for row in found if row[0] == "ok" and isinstance(row[2], float) and row[2] > 0]
    # An answer that is wrong now and then is wrong, however fast it was in the other runs.
    if not ok or any(row[0] == "wrong" for row in found):
        status, reason, *_ = min(found, key=lambda row: _WORST.index(str(row[0])))
        # A time of 0 is none: no clock can tell it from nothing.
        return Estimate(
            (), None, None, "unmeasurable" if status == "ok" else str(status), str(reason)
        )
    medians = tuple(row[2] for row in ok if isinstance(row[2], float))
    if len(ok) > 1:
        low, high = _log_interval([math.log(m) for m in medians])
        if max(-low, high) > 700:  # beyond what a float holds: a file that was edited
            return Estimate(medians, None, None, "ok")
        return Estimate(medians, math.exp(low), math.exp(high), "ok")
    bounds = [float(str(value)) for value in ok[0][3:5]]
    if any(map(math.isnan, bounds)):
        return Estimate(medians, None, None, "ok")
    return Estimate(medians, bounds[0], bounds[1], "ok")
