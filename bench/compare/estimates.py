"""The estimate of a cell on one side, and the ratio of two sides with its interval."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from bench.compare import observations
from bench.records import schema
from bench.records.schema import FAULTLESS, FAULTS, SEVERITY
from bench.stats import moderated
from bench.stats.moderated import BETWEEN_DEGREES, Prior
from bench.stats.ratios import Ratio, variance

#: With a single run on a side a smaller difference is not reported: of 48,000 pairs of fresh
#: processes of unchanged code on a quiet host, 99 % were within 14 % (docs/comparing.md).
NOISE = math.log(1.15)
#: What a cell differs between sessions of a machine, on a log scale: the medians of two sessions,
#: two hours apart, differed by 1.5 % (standard deviation of 141 cells, docs/gate.md).
SESSION = 0.015 / math.sqrt(2)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """What is known of the time of one cell on one side, in seconds.

    `medians` holds one time for each run in which the cell is settled, that is, `ok` and timed. It
    is empty otherwise, and `status` says why. `low` and `high` are the 95 % interval: of the mean
    over runs on a log scale, or of the only run. An `unstable` cell has an interval too: what it
    does not contain is excluded, and a `low` of 0 means that only an upper bound is known. `reason`
    explains why the cell is not settled, or what failed in some of the runs. `covers`: the interval
    covers the differences between processes (schema 2). `sessions` has the number of the session of
    each time, and is empty if unknown.
    """

    medians: tuple[float, ...]
    low: float | None
    high: float | None
    status: str
    reason: str = ""
    covers: bool = False
    sessions: tuple[int, ...] = ()

    @property
    def flawed(self) -> bool:
        """Whether some runs failed, and others have a time."""
        return bool(self.medians and self.reason)

    @property
    def seconds(self) -> float | None:
        """Geometric mean of the runs' medians."""
        return statistics.geometric_mean(self.medians) if self.medians else None

    @property
    def likely(self) -> float | None:
        """The time that a ratio is computed with: of an unsettled cell the middle or the bound."""
        if self.medians or not self.high:
            return self.seconds
        return math.sqrt(self.low * self.high) if self.low else self.high


def ratio(side: Estimate, base: Estimate, among: int = 1) -> Ratio | None:
    """Return `side` over `base`, or None if nothing is known of one of them.

    If the intervals of the runs do not cover other processes, two runs or more per side give
    Welch's interval of the difference of mean logarithms (B. L. Welch, Biometrika 34, 1947). Runs
    are the replicates, and sessions the units above them if the sides have different ones.
    Otherwise the interval is made of those of both sides (G. Y. Zou and A. Donner, Statistics in
    Medicine 27, 2008), whose widths below and above may differ and be infinite. A single run says
    nothing about the noise of this cell between processes: then `NOISE`, a 99 % quantile, is added.
    The interval holds for all of `among` ratios at once (Bonferroni).
    """
    here, there = side.likely, base.likely
    if not here or not there:
        return None
    difference = math.log(here) - math.log(there)
    upper = 1 - (1 - CONFIDENCE) / 2 / among
    covered, fewest = side.covers and base.covers, min(len(side.medians), len(base.medians))
    if fewest > 1 and not covered:
        apart = {*side.sessions} != {*base.sessions}
        terms = [*_terms(side, apart), *_terms(base, apart)]
        below = above = moderated.half(terms, upper)
    else:
        wider = float(ndtri(upper) / ndtri((1 + CONFIDENCE) / 2))
        noise = 0.0 if covered and fewest > 1 else NOISE
        (a_below, a_above), (b_below, b_above) = _widths(side, here), _widths(base, there)
        below = wider * math.hypot(noise, a_below, b_above)
        above = wider * math.hypot(noise, a_above, b_below)
    if not abs(difference) < 700:  # beyond what a float holds: a file that was edited
        return None
    low, high = difference - below, difference + above
    return Ratio(
        math.exp(difference),
        math.exp(low) if low > -700 else 0.0,
        math.exp(high) if high < 700 else math.inf,
    )


def _terms(side: Estimate, apart: bool) -> list[tuple[float, float]]:
    """Return the variances whose sum is that of a side's mean, with their degrees of freedom.

    If the sides are `apart`, the noise of the runs is that within sessions, and the means of the
    sessions vary beyond that by a variance which is moderated by `SESSION`. If the runs have no
    noise at all, their figures are no times, and there is no term for sessions.
    """
    logs = [math.log(x) for x in side.medians]
    runs, noise = len(logs), variance(logs)
    if not (apart and noise):
        return [(noise / runs, runs - 1)]
    groups: dict[int, list[float]] = {}
    for session, log in zip(side.sessions, logs, strict=True):
        groups.setdefault(session, []).append(log)
    degrees, further = runs - len(groups), len(groups) - 1
    if degrees:
        noise = sum((len(g) - 1) * variance(g) for g in groups.values() if len(g) > 1) / degrees
    means = [sum(group) / len(group) for group in groups.values()]
    squares = further * variance(means) if further else 0.0
    squares -= further * noise * sum(1 / len(group) for group in groups.values()) / len(groups)
    between, known = Prior(SESSION**2, BETWEEN_DEGREES).weighted(max(0.0, squares), further)
    share = sum((len(group) / runs) ** 2 for group in groups.values())
    return [(noise / runs, degrees or runs - 1), (share * between, known)]


def _widths(estimate: Estimate, likely: float) -> tuple[float, float]:
    """Return how far the interval reaches below and above, on a log scale; 0 if unknown."""
    low, high = estimate.low, estimate.high
    if low is None or high is None or not low <= likely <= high or not high:
        return 0.0, 0.0
    return math.log(likely / low) if low else math.inf, math.log(high / likely)


def by_group(
    frame: pd.DataFrame, rows: Sequence[str], sides: Sequence[str]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Estimate]:
    """Return the estimate of each row on each side in the frame.

    A cell that is settled in some runs has the times of these. One that is `unstable` in all runs
    has the narrowest of their intervals.
    """
    keys, cut = [*rows, *sides], len(rows)
    group = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(group, return_index=True)
    names = map(tuple, frame[keys].iloc[first].to_numpy().tolist())
    median, low, high = (
        frame[name].to_numpy(float) for name in ("median_s", "ci_low_s", "ci_high_s")
    )
    valid = ~observations.wrong_somewhere(frame, group) & ~schema.single_call(frame).to_numpy()
    ok = observations.timed(frame).to_numpy() & (frame.status == "ok").to_numpy() & valid
    covers = (frame.schema_version.to_numpy(int) > 1) & (low > 0) & (high > 0)
    place = np.flatnonzero(ok)[np.argsort(group[ok], kind="stable")]
    counts = np.bincount(group[ok], minlength=len(first))
    whole = np.bincount(group[ok], covers[ok], len(first)) == counts
    ends = np.cumsum(counts)
    medians, session = (
        median[place].tolist(),
        observations.sessions(frame).to_numpy()[place].tolist(),
    )
    bounds = np.column_stack((low, high))[place[(ends - counts)[counts == 1]]]
    lows, highs = np.full(len(first), np.nan), np.full(len(first), np.nan)
    lows[counts == 1], highs[counts == 1] = bounds.T
    lows[counts > 1], highs[counts > 1] = _intervals(np.log(median[place]), counts)
    for number in np.flatnonzero(whole & (counts > 1)).tolist():
        chosen = place[ends[number] - counts[number] : ends[number]]
        lows[number], highs[number] = _joined(median[chosen], low[chosen], high[chosen])
    bare = ~np.isin(group, group[ok])
    faults: dict[int, list[tuple[str, str]]] = {}
    notable = bare | frame.status.isin(FAULTS).to_numpy()
    texts = (frame.status[notable].tolist(), frame.reason[notable].tolist())
    for number, *text in zip(group[notable].tolist(), *texts, strict=True):
        faults.setdefault(number, []).append((text[0], text[1]))
    unsettled: dict[int, list[tuple[float, float]]] = {}
    wide = bare & valid & (frame.status == "unstable").to_numpy() & (median > 0)
    for number, *row in zip(
        *(column[wide].tolist() for column in (group, covers, median, low, high)), strict=True
    ):
        unsettled.setdefault(number, []).append(_unsettled(*row))
    single = set(group[schema.single_call(frame).to_numpy()].tolist())
    runs = np.bincount(group, minlength=len(first)).tolist()
    found = {}
    columns = (names, counts.tolist(), ends.tolist(), lows.tolist(), highs.tolist(), whole.tolist())
    for number, (key, count, end, least, most, all_) in enumerate(zip(*columns, strict=True)):
        if not count:
            made = _without_time(faults[number], number in single)
            if made.status == "unstable" and number in unsettled:
                narrow = min(
                    unsettled[number], key=lambda b: (b[1] / b[0] if b[0] else math.inf, b)
                )
                made = replace(made, low=narrow[0], high=narrow[1])
        else:
            known = not (math.isnan(least) or math.isnan(most))
            low_s, high_s = (least, most) if known else (None, None)
            flaw = _flaw(faults[number], runs[number]) if number in faults else ""
            own = slice(end - count, end)
            made = Estimate(
                *(tuple(medians[own]), low_s, high_s, "ok", flaw, all_),
                tuple(session[own]),
            )
        found[key[:cut], key[cut:]] = made
    return found


def _unsettled(covers: bool, median: float, low: float, high: float) -> tuple[float, float]:
    """Return the interval of an `unstable` row.

    In schema 1 it describes the disturbed rounds. Disturbance only adds time: the cell takes no
    longer than they took, and how much less is unknown.
    """
    if covers:
        return low, high
    return 0.0, median if math.isnan(high) else max(median, high)


def _joined(median: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Return the interval of the mean of runs of schema 2, whose own intervals are known.

    Their errors may have one cause, so the interval of the mean is as wide as theirs. If the runs
    differ by more than their intervals, it is at least that of their differences.
    """
    middle = np.log(median).mean()
    spread = float(ndtri((1 + CONFIDENCE) / 2)) * np.log(median).std(ddof=1) / math.sqrt(len(low))
    return (
        float(np.exp(min(np.log(low).mean(), middle - spread))),
        float(np.exp(max(np.log(high).mean(), middle + spread))),
    )


def _intervals(logs: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's interval of the mean of each group that has two members or more.

    `logs` holds the logarithms of all groups, one group after the other, `counts` how many each
    has. An end that is beyond a float, as in a file that was edited, is NaN.
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
    """Return what failed in some of the `runs` of a cell whose other runs have a time."""
    failed = _without_time(faults)
    return f"{failed.status} in {len(faults)} of {runs} runs: {failed.reason}"


def _without_time(seen: list[tuple[str, str]], single: bool = False) -> Estimate:
    """Return the worst of the statuses of a cell's runs, and its reason.

    Cells without a fault are `not timed` after a single call, or `unmeasurable`.
    """
    status, reason = min(seen, key=lambda row: SEVERITY.index(row[0]))
    if status in FAULTLESS and single:
        status, reason = "not timed", schema.SINGLE_CALL
    return Estimate((), None, None, "unmeasurable" if status == "ok" else status, reason)
