"""The rules by which this suite and its peers call a cell slower.

Each rule takes the samples of both sides by cell and run, and names the cells that it would raise
an alarm for. The rules of the peers follow their sources, at their defaults:

- asv 0.6 (``compare._is_result_better``, ``_stats.is_different``): the median of all rounds of all
  processes is more than 1.1 times as large, and Mann and Whitney's U test of them has p < 0.002.
- benchstat (golang.org/x/perf): the U test has p < 0.05; its samples are repetitions in one
  process, as ``-count`` makes them, or one median of each process, which is better.
- pytest-benchmark 5 (``utils.PercentageRegressionCheck``): one run a side, ``median:10%``.
- pyperf 2.10 (``_utils.is_significant``): Student's t test, two-sided at 95 %, of the three values
  of every process.
"""

import math
import statistics
from collections.abc import Callable, Sequence

from scipy.stats import mannwhitneyu, ttest_ind

from bench.gate import power
from bench.gate.power import Rule, Side
from bench.records.schema import CellKey
from tests.validation.collection import Sample

#: Values that pyperf takes in each process.
PYPERF_VALUES = 3
#: Repetitions in one process that benchstat's manual asks for as a minimum.
BENCHSTAT_COUNT = 10


def slower(sample: Sample, factor: float) -> Sample:
    """Return the sample of an operation that takes `factor` times as long."""
    rounds = tuple(factor * seconds for seconds in sample.rounds_s)
    return Sample(factor * sample.min_s, factor * sample.median_s, rounds)


def _this_suite(base: Side[Sample], new: Side[Sample]) -> set[CellKey]:
    old, now = (
        {key: [math.log(sample.min_s) for sample in samples] for key, samples in side.items()}
        for side in (base, new)
    )
    return power.regressed(old, now)


def _each(is_slower: Callable[[Sequence[Sample], Sequence[Sample]], bool]) -> Rule[Sample]:
    """Return the rule that looks at each cell alone."""

    def rule(base: Side[Sample], new: Side[Sample]) -> set[CellKey]:
        return {name for name in base if name in new and is_slower(base[name], new[name])}

    return rule


def _rounds(samples: Sequence[Sample], count: int | None = None) -> list[float]:
    return [seconds for sample in samples for seconds in sample.rounds_s[:count]]


def _u_test(base: list[float], new: list[float], alpha: float) -> bool:
    higher = statistics.median(new) > statistics.median(base)
    return higher and float(mannwhitneyu(base, new).pvalue) < alpha


def _asv(base: Sequence[Sample], new: Sequence[Sample]) -> bool:
    old, now = _rounds(base), _rounds(new)
    return statistics.median(now) > 1.1 * statistics.median(old) and _u_test(old, now, 0.002)


def _benchstat_once(base: Sequence[Sample], new: Sequence[Sample]) -> bool:
    old, now = (_rounds(side[:1], BENCHSTAT_COUNT) for side in (base, new))
    return _u_test(old, now, 0.05)


def _benchstat(base: Sequence[Sample], new: Sequence[Sample]) -> bool:
    return _u_test([s.median_s for s in base], [s.median_s for s in new], 0.05)


def _pytest_benchmark(base: Sequence[Sample], new: Sequence[Sample]) -> bool:
    return new[0].median_s / base[0].median_s * 100 - 100 > 10


def _pyperf(base: Sequence[Sample], new: Sequence[Sample]) -> bool:
    old, now = _rounds(base, PYPERF_VALUES), _rounds(new, PYPERF_VALUES)
    if statistics.fmean(now) <= statistics.fmean(old):
        return False
    return float(ttest_ind(old, now).pvalue) < 0.05


RULES: dict[str, Rule[Sample]] = {
    "bench check": _this_suite,
    "asv": _each(_asv),
    "benchstat, one process": _each(_benchstat_once),
    "benchstat, a median a process": _each(_benchstat),
    "pytest-benchmark median:10%": _each(_pytest_benchmark),
    "pyperf": _each(_pyperf),
}
