"""A model of what disturbs runs of unchanged code, fitted to runs that were collected.

The logarithm of a time is a sum: the level of the operation; a term that all cells of a process
share and that drifts from one process to the next (a first-order autoregression); a term of each
cell in each process; sometimes a positive outlier; and the noise of the rounds, which resemble the
rounds before them (another autoregression) and are never below 0.
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.records.schema import CellKey
from bench.stats.ratios import MAD_DEVIATIONS
from tests.validation.collection import KEPT, Runs, Sample

#: A sample this many deviations above the median of its cell is an outlier.
_FAR = 4.0


@dataclass(frozen=True)
class Noise:
    """Standard deviations of logarithms, shares, and correlations of neighbours.

    `process` holds one deviation for each kind of cell; `outlier` is the mean size of an outlier.
    """

    process: tuple[float, ...]
    common: float
    drift: float
    outliers: float
    outlier: float
    rounds: float
    correlation: float


def _spread(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return MAD_DEVIATIONS * (statistics.median(abs(value - middle) for value in values))


def _neighbours(values: Sequence[float]) -> float:
    """Return the correlation of neighbours, by the ratio of von Neumann, at least 0."""
    steps = [b - a for a, b in itertools.pairwise(values)]
    total = statistics.pvariance(values)
    return max(0.0, 1 - statistics.fmean(s * s for s in steps) / (2 * total)) if total else 0.0


def fit(runs: Runs) -> Noise:
    """Return the noise of collected runs, by robust estimates: medians over cells or runs."""
    logs = {
        key: [math.log(sample.min_s) if sample else math.nan for sample in samples]
        for key, samples in runs.items()
    }
    middles = {
        key: statistics.median(y for y in ys if not math.isnan(y)) for key, ys in logs.items()
    }
    table = np.array([[y - middles[key] for y in ys] for key, ys in logs.items()])
    common = np.nanmedian(table, axis=0)
    rest = [[y for y in row if not math.isnan(y)] for row in (table - common).tolist()]
    process = [_spread(row) for row in rest]
    # An exponential distribution has no memory: the mean excess over a bound is its mean.
    beyond = [
        y - _FAR * sd
        for row, sd in zip(rest, process, strict=True)
        for y in row
        if y > _FAR * sd > 0
    ]
    sets = [s.rounds_s for samples in runs.values() for s in samples if s and len(s.rounds_s) > 4]
    within = [[math.log(seconds) for seconds in rounds] for rounds in sets]
    return Noise(
        process=tuple(process),
        common=_spread(common.tolist()),
        drift=_neighbours(common.tolist()),
        outliers=len(beyond) / sum(map(len, rest)),
        outlier=statistics.fmean(beyond) if beyond else 0.0,
        rounds=statistics.median(_spread(rounds) for rounds in within),
        correlation=statistics.median(_neighbours(rounds) for rounds in within),
    )


def _autoregression(
    source: np.random.Generator, shape: tuple[int, ...], sd: float, correlation: float
) -> np.ndarray:
    """Return series along the last axis whose neighbours correlate, with deviation `sd`."""
    made = source.normal(0.0, sd, shape)
    for place in range(1, shape[-1]):
        fresh = math.sqrt(1 - correlation**2) * made[..., place]
        made[..., place] = correlation * made[..., place - 1] + fresh
    return made


def draw(noise: Noise, cells: int, count: int, seed: int) -> Runs:
    """Return `count` runs of `cells` unchanged cells, which take 10 us and more."""
    source = np.random.default_rng(seed)
    common = _autoregression(source, (count,), noise.common, noise.drift)
    deviations = source.choice(noise.process, (cells, 1))
    level = common + deviations * source.standard_normal((cells, count))
    struck = source.random((cells, count)) < noise.outliers
    level += struck * source.exponential(noise.outlier, (cells, count))
    shape = (cells, count, KEPT)
    rounds = np.abs(_autoregression(source, shape, noise.rounds, noise.correlation))
    seconds = 1e-5 * (1 + np.arange(cells))[:, None, None] * np.exp(level[..., None] + rounds)
    runs: Runs = {}
    for place, of_cell in enumerate(seconds.tolist()):
        runs[CellKey("", "modelled", "cpu", "float32", f"cell={place}")] = [
            Sample(min(each), statistics.median(each), tuple(each)) for each in of_cell
        ]
    return runs
