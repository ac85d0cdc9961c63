"""The estimate of a cell on one side, and the ratio of two sides with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from bench.compare import observations
from bench.records.schema import FAULTS, SEVERITY
from bench.stats.ratios import Ratio, variance

#: With a single run per side a smaller difference is not reported: nine of ten medians of fresh
#: processes of unchanged code are within 4 to 6 % while the host is quiet (docs/method.md).
NOISE = math.log(1.10)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """Medians of the runs of one cell on one side, in seconds; `status` where there is none.

    `low` and `high` are the 95 % interval: of the mean over runs on a log scale, or of the median
    within the only run. `reason` explains why there is no time, or what failed in some of the runs.
    """

    medians: tuple[float, ...]
    low: float | None
    high: float | None
    status: str
    reason: str = ""

    @property
    def flawed(self) -> bool:
        """Whether some runs failed, and others have a time."""
        return bool(self.medians and self.reason)

    @property
    def seconds(self) -> float | None:
        """Geometric mean of the runs' medians."""
        if not self.medians:
            return None
        return math.exp(math.fsum(map(math.log, self.medians)) / len(self.medians))


def ratio(side: Estimate, base: Estimate) -> Ratio | None:
    """Return `side` over `base`, or None if one of them was not measured.

    With two runs or more per side the interval is Welch's, of the difference of mean logarithms (B.
    L. Welch, Biometrika 34, 1947): runs are the replicates. A single run says nothing about the
    noise between processes; `NOISE`, a 90 % quantile, is then added to the intervals within runs.
    """
    if not side.medians or not base.medians:
        return None
    a, b = [math.log(x) for x in side.medians], [math.log(x) for x in base.medians]
    difference = math.fsum(a) / len(a) - math.fsum(b) / len(b)
    if len(a) > 1 and len(b) > 1:
        va, vb = variance(a) / len(a), variance(b) / len(b)
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


def by_group(
    frame: pd.DataFrame, rows: Sequence[str], sides: Sequence[str]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Estimate]:
    """Return the estimate of each pair of row and side that the frame has."""
    keys, cut = [*rows, *sides], len(rows)
    group = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(group, return_index=True)
    names = map(tuple, frame[keys].iloc[first].to_numpy().tolist())
    median, low, high = (
        frame[name].to_numpy(float) for name in ("median_s", "ci_low_s", "ci_high_s")
    )
    ok = observations.timed(frame).to_numpy() & ~observations.wrong_somewhere(frame, group)
    place = np.flatnonzero(ok)[np.argsort(group[ok], kind="stable")]
    counts = np.bincount(group[ok], minlength=len(first))
    ends = np.cumsum(counts)
    medians = median[place].tolist()
    bounds = np.column_stack((low, high))[place[(ends - counts)[counts == 1]]]
    lows, highs = np.full(len(first), np.nan), np.full(len(first), np.nan)
    lows[counts == 1], highs[counts == 1] = bounds.T
    lows[counts > 1], highs[counts > 1] = _intervals(np.log(median[place]), counts)
    bare = ~np.isin(group, group[ok])
    faults: dict[int, list[tuple[str, str]]] = {}
    notable = bare | frame.status.isin(FAULTS).to_numpy()
    texts = (frame.status[notable].tolist(), frame.reason[notable].tolist())
    for number, *text in zip(group[notable].tolist(), *texts, strict=True):
        faults.setdefault(number, []).append((text[0], text[1]))
    runs = np.bincount(group, minlength=len(first)).tolist()
    found = {}
    columns = (names, counts.tolist(), ends.tolist(), lows.tolist(), highs.tolist())
    for number, (key, count, end, least, most) in enumerate(zip(*columns, strict=True)):
        if not count:
            made = _without_time(faults[number])
        else:
            known = not (math.isnan(least) or math.isnan(most))
            low_s, high_s = (least, most) if known else (None, None)
            flaw = _flaw(faults[number], runs[number]) if number in faults else ""
            made = Estimate(tuple(medians[end - count : end]), low_s, high_s, "ok", flaw)
        found[key[:cut], key[cut:]] = made
    return found


def _intervals(logs: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's intervals of the means of groups, for those of two members or more.

    `logs` holds the logarithms of all groups, one after the other, `counts` how many each has. NaN
    is what is beyond a float, as in a file that was edited.
    """
    group = np.repeat(np.arange(len(counts)), counts)
    mean = np.bincount(group, logs, len(counts)) / np.maximum(counts, 1)
    squares = np.bincount(group, (logs - mean[group]) ** 2, len(counts))
    n, mean, squares = (column[counts > 1] for column in (counts, mean, squares))
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * np.sqrt(squares / (n - 1) / n)
    beyond = np.abs(mean) + half > 700
    low, high = (np.where(beyond, np.nan, mean + off) for off in (-half, half))
    return np.exp(low), np.exp(high)


def _flaw(faults: list[tuple[str, str]], runs: int) -> str:
    """Return what failed in some of so many runs, whose other runs have a time."""
    failed = _without_time(faults)
    return f"{failed.status} in {len(faults)} of {runs} runs: {failed.reason}"


def _without_time(seen: list[tuple[str, str]]) -> Estimate:
    """Return the worst of the statuses of a cell's runs, and its reason."""
    status, reason = min(seen, key=lambda row: SEVERITY.index(row[0]))
    return Estimate((), None, None, "unmeasurable" if status == "ok" else status, reason)
