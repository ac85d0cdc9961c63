"""The estimate of a cell on one side, and the ratio of two sides with its interval."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class _Run(NamedTuple):
    """A row of a cell: a run of it. `covers` and `session` are as in `Estimate`."""

    status: str
    reason: str
    single_call: bool
    session: int
    covers: bool
    median: float
    low: float
    high: float


def by_group(
    frame: pd.DataFrame, rows: Sequence[str], sides: Sequence[str]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Estimate]:
    """Return the estimate of each row on each side in the frame.

    A cell that is settled in some runs has the times of these. One that is `unstable` in all runs
    has the narrowest of their intervals.
    """
    median, low, high = (
        frame[name].to_numpy(float) for name in ("median_s", "ci_low_s", "ci_high_s")
    )
    covers = (frame.schema_version.to_numpy(int) > 1) & (low > 0) & (high > 0)
    texts = frame.status, frame.reason
    figures = schema.single_call(frame), observations.sessions(frame), covers, median, low, high
    columns: Any = (column.tolist() for column in (*texts, *figures))
    keys = frame[[*rows, *sides]].itertuples(index=False, name=None)
    runs: dict[tuple[str, ...], list[_Run]] = {}
    for key, *values in zip(keys, *columns, strict=True):
        runs.setdefault(key, []).append(_Run(*values))
    cut = len(rows)
    return {(key[:cut], key[cut:]): _estimate(own) for key, own in runs.items()}


def _estimate(runs: list[_Run]) -> Estimate:
    """Return the estimate of a cell from its runs; without a time, the worst of their statuses."""
    # An answer that is wrong in one run is wrong, however fast the other runs were.
    wrong = any(run.status == "wrong" for run in runs)
    valid = [run for run in runs if run.median > 0 and not (wrong or run.single_call)]
    if timed := [run for run in valid if run.status == "ok"]:
        covers, flaw = all(run.covers for run in timed), ""
        if failed := [run for run in runs if run.status in FAULTS]:
            worst = _worst(failed)
            flaw = f"{worst.status} in {len(failed)} of {len(runs)} runs: {worst.reason}"
        medians = tuple(run.median for run in timed)
        sessions = tuple(run.session for run in timed)
        low, high = _interval(timed, covers)
        return Estimate(medians, low, high, "ok", flaw, covers, sessions)
    worst = _worst(runs)
    if worst.status in FAULTLESS and any(run.single_call for run in runs):
        return Estimate((), None, None, "not timed", schema.SINGLE_CALL)
    low, high = None, None
    if worst.status == "unstable" and (known := [_bounds(run) for run in valid]):
        low, high = min(known, key=lambda b: (b[1] / b[0] if b[0] else math.inf, b))
    status = "unmeasurable" if worst.status == "ok" else worst.status
    return Estimate((), low, high, status, worst.reason)


def _worst(runs: list[_Run]) -> _Run:
    return min(runs, key=lambda run: SEVERITY.index(run.status))


def _bounds(run: _Run) -> tuple[float, float]:
    """Return the interval of an `unstable` row.

    In schema 1 it describes the disturbed rounds. Disturbance only adds time: the cell takes no
    longer than they took, and how much less is unknown.
    """
    if run.covers:
        return run.low, run.high
    return 0.0, run.median if math.isnan(run.high) else max(run.median, run.high)


def _interval(runs: list[_Run], covers: bool) -> tuple[float | None, float | None]:
    """Return the interval of the mean of runs on a log scale, that of a single run, or no bounds.

    It is Student's, unless the intervals of all runs are known to cover other processes. Their
    errors may have one cause, so the interval of the mean is then as wide as theirs. If the runs
    differ by more than their intervals, it is at least that of their differences.
    """
    if len(runs) == 1:
        low, high = runs[0].low, runs[0].high
        return (None, None) if math.isnan(low) or math.isnan(high) else (low, high)
    logs = [math.log(run.median) for run in runs]
    middle, error = sum(logs) / len(logs), math.sqrt(variance(logs) / len(logs))
    upper = (1 + CONFIDENCE) / 2
    half = error * float(ndtri(upper) if covers else stdtrit(len(logs) - 1, upper))
    low, high = middle - half, middle + half
    if covers:
        low = min(low, sum(math.log(run.low) for run in runs) / len(runs))
        high = max(high, sum(math.log(run.high) for run in runs) / len(runs))
    # Beyond what a float holds: a file that was edited.
    return (math.exp(low), math.exp(high)) if max(-low, high) < 700 else (None, None)
