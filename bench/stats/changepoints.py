"""Where the level of a series of sessions changes."""

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.special import fdtrc, ndtri, stdtr

from bench.stats import moderated

#: Fewest runs and fewest sessions of a level.
FEWEST, SESSIONS = 4, 2
#: Chance that a series without a change is given one.
ALPHA = 0.04
#: Least noise between sessions that is assumed, as a share: two may agree by chance.
LEAST_NOISE = 0.005
#: A series whose noise would be as large in this share of the others keeps it.
UNLIKE = 0.05
#: Share of the largest steps between neighbours that may be changes, and are not noise.
CHANGES = 0.15
#: Share of the degrees of freedom that the steps between neighbours leave: they overlap.
EFFICIENCY = 0.5
#: A session this many deviations off its neighbours is an outlier and no level.
OUTLIER = 3.0
#: Share of the sessions of a level that must be on its side of the middle between two levels.
MOSTLY = 0.7


def noise(logs: Sequence[float]) -> tuple[float, float]:
    """Return the variance of a series around its levels, and its degrees of freedom.

    From the squared steps between neighbours (P. Hall, J. Kay and D. Titterington, Biometrika 77,
    1990), without the largest ones, which may be changes. The rest is compared with what they are
    in normal noise (G. Blom, Statistical estimates and transformed beta-variables, 1958).
    """
    squares = np.sort(np.diff(logs) ** 2 / 2)
    kept = len(squares) - math.ceil(CHANGES * len(squares))
    if kept < 1:
        return 0.0, 0.0
    places = (np.arange(1, kept + 1) - 0.375) / (len(squares) + 0.25)
    usual = float(np.mean(ndtri((1 + places) / 2) ** 2))
    return float(squares[:kept].mean()) / usual, EFFICIENCY * len(squares)


def _without_outliers(logs: np.ndarray, deviation: float) -> np.ndarray:
    """Return a series whose sessions are not far off the median of their five neighbours."""
    if len(logs) < 2 * FEWEST:
        return logs
    padded = np.pad(logs, 2, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    near: np.ndarray = np.clip(logs, around - OUTLIER * deviation, around + OUTLIER * deviation)
    return near


def find(
    series: Sequence[Sequence[float]], runs: Sequence[Sequence[int]]
) -> list[list[tuple[int, float]]]:
    """Return where the level of each series changes, and by how much.

    A series has the logarithm of a cell's time in each session; `runs` has the number of runs in
    each session. Binary segmentation: a part is split where the means of both sides differ most, if
    a t test with Bonferroni's correction over the places says that they differ. Its variance is
    moderated over all series (see `moderated.prior`), except that of a series that is far noisier.
    The work grows with the number of sessions.
    """
    own = [noise(logs) for logs in series]
    shared = moderated.prior(each for each in own if each[1])
    made: list[list[tuple[int, float]]] = []
    for logs, counts, (variance, degrees) in zip(series, runs, own, strict=True):
        if len(logs) < 2 * SESSIONS or sum(counts) < 2 * FEWEST:
            made.append([])
            continue
        likely = fdtrc(degrees, shared.degrees, variance / shared.variance) if shared.degrees else 0
        if likely > UNLIKE:
            variance, degrees = shared.weighted(degrees * variance, degrees)
        deviation = max(LEAST_NOISE, math.sqrt(variance))
        clean = _without_outliers(np.array(logs), deviation)
        ends = [0, *_splits(clean, np.array(counts), deviation, degrees), len(logs)]
        places = zip(ends, ends[1:], ends[2:], strict=False)
        kept = [end for a, end, b in places if _apart(logs[a:end], logs[end:b])]
        parts = itertools.pairwise([0, *kept, len(logs)])
        levels = [statistics.median(logs[a:b]) for a, b in parts]
        made.append(list(zip(kept, np.diff(levels).tolist(), strict=True)))
    return made


def _apart(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether most sessions of both levels are on their side of the middle between them."""
    levels = statistics.median(before), statistics.median(after)
    middle, rises = statistics.fmean(levels), levels[1] > levels[0]
    sides = [(y > middle) != rises for y in before], [(y > middle) == rises for y in after]
    return min(map(statistics.fmean, sides)) >= MOSTLY


def _splits(logs: np.ndarray, runs: np.ndarray, deviation: float, degrees: float) -> list[int]:
    """Return the first sessions of new levels, in order."""
    count, before = len(logs), np.cumsum(runs)[:-1]
    places = np.arange(1, count)
    allowed = (before >= FEWEST) & (runs.sum() - before >= FEWEST)
    allowed &= (places >= SESSIONS) & (count - places >= SESSIONS)
    places = places[allowed]
    if not len(places):
        return []
    sums = np.cumsum(logs)
    left, right = sums[places - 1] / places, (sums[-1] - sums[places - 1]) / (count - places)
    t = np.abs(right - left) / (deviation * np.sqrt(1 / places + 1 / (count - places)))
    best = int(np.argmax(t))
    if 2 * float(stdtr(degrees, -t[best])) * len(places) > ALPHA:
        return []
    cut = int(places[best])
    before_it = _splits(logs[:cut], runs[:cut], deviation, degrees)
    after_it = _splits(logs[cut:], runs[cut:], deviation, degrees)
    return [*before_it, cut, *(cut + place for place in after_it)]
