"""Judge the visits to a cell together: the interval of its time, and what disturbed it."""

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.measure.disturbance import MOST_STOLEN, Visit, drift
from bench.measure.kernels import ReferenceKernel, ReferenceKernels
from bench.stats import quantiles, undisturbed

#: An interval wider than this factor is `unstable`.
WIDEST = 1.5
#: Another process leaves cold caches and sleeping threads, so that all rounds of a visit are slower
#: by up to this factor times the share of them that it took (docs/validation.md).
COLD = 0.6
#: Share of the rounds from which a loss is named.
NOTABLE = 0.01


class Disturbance(NamedTuple):
    """A code, for which report/reasons.py has the words, and its figures."""

    code: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """What all visits to a cell together show."""

    columns: Mapping[str, Any]
    rounds_s: tuple[float, ...]
    found: tuple[Disturbance, ...]
    #: What the time differs between processes, on a log scale: more visits do not change that.
    spread: float

    @property
    def width(self) -> float:
        """The upper end of the interval over the lower; 1 of a single call, which has none."""
        low, high = self.columns["ci_low_s"], self.columns["ci_high_s"]
        if low is None:
            return 1.0
        return float(high / low) if low else math.inf

    @property
    def width_within(self) -> float:
        """The same without what the time differs between processes."""
        return self.width / math.exp(2 * self.spread)


def judge(visits: Sequence[Visit], kernels: ReferenceKernels) -> Judged:
    """Return the columns that follow from all visits, and what disturbed the ones that count.

    The best times of `kernels` are those known now, so a later call may judge better.
    """
    samples = undisturbed.without_long([_sample(visit, kernels).quiet for visit in visits])
    visits = [visit for visit, sample in zip(visits, samples, strict=True) if sample.rounds_s]
    samples = [sample for sample in samples if sample.rounds_s]
    low, high = undisturbed.interval(samples)
    typical = undisturbed.typical(samples, high)
    counted = [visits[i] for i in typical]
    rounds_s = list(itertools.chain.from_iterable(samples[i].rounds_s for i in typical))
    stolen = [statistics.fmean(v.stolen) for v in counted if v.stolen is not None]
    columns = {
        **quantiles.summary(rounds_s),
        "iterations": counted[0].iterations,
        "ci_low_s": None if visits[0].single else low,
        "ci_high_s": None if visits[0].single else high,
        "involuntary_switches": counted[0].switches,
        "drift": drift(rounds_s),
        "stolen": statistics.fmean(stolen) if stolen else None,
        "slowdown": statistics.fmean(_slowdown(visit, kernels) for visit in counted),
        "core_s": min((v.core_s for v in counted if v.core_s is not None), default=None),
    }
    found = tuple(_disturbances(counted, kernels))
    return Judged(columns, tuple(rounds_s), found, samples[typical[0]].spread)


def _sample(visit: Visit, kernels: ReferenceKernels) -> undisturbed.Sample:
    read = kernels.named(visit.kernels_s)
    stopped = _stopped(visit)
    stolen = [min(MOST_STOLEN, s + stopped) for s in visit.stolen or (0.0,) * len(visit.rounds_s)]
    slow = max((kernel.loss(visit.kernels_s[kernel.name]) for kernel in read), default=1.0)
    # The clock of an accelerator may change by itself.
    on_host = read and not any(kernel.device for kernel in read)
    return undisturbed.Sample(
        tuple(map(undisturbed.Round, visit.rounds_s, stolen)),
        loss=slow * (1 + COLD * statistics.fmean(stolen)),
        spread=_spread(visit, read),
        longest=undisturbed.LONGEST if on_host else math.inf,
    )


def _spread(visit: Visit, read: Sequence[ReferenceKernel]) -> float:
    if not read or any(kernel.once_a_visit for kernel in read):
        return undisturbed.LARGEST
    several = any(kernel.several_threads for kernel in read)
    long = statistics.median(visit.rounds_s) >= undisturbed.SHORT_S
    return undisturbed.PARALLEL if several and long else undisturbed.USUAL


def _slowdown(visit: Visit, kernels: ReferenceKernels) -> float:
    read = kernels.named(visit.kernels_s)
    return max((kernel.slowdown(visit.kernels_s[kernel.name]) for kernel in read), default=1.0)


def _stopped(visit: Visit) -> float:
    """Return the share of the rounds for which a CPU quota stopped the process."""
    return visit.throttled.stopped_s / visit.seconds if visit.throttled and visit.seconds else 0.0


def _disturbances(visits: Sequence[Visit], kernels: ReferenceKernels) -> Iterator[Disturbance]:
    """Yield what disturbed these visits by more than it disturbs a quiet machine."""
    for kernel in kernels:
        read = [visit.kernels_s[kernel.name] for visit in visits if kernel.name in visit.kernels_s]
        if read and (times := kernel.slowdown(statistics.fmean(read))) >= kernel.limit:
            yield Disturbance(kernel.code, {"times": times})
    shares = [share for visit in visits for share in visit.stolen or ()]
    if shares and (share := statistics.fmean(shares)) >= NOTABLE:
        yield Disturbance("stolen", {"share": share})
    quotas = [visit.throttled for visit in visits if visit.throttled and _stopped(visit) >= NOTABLE]
    if quotas:
        stopped, periods = sum(q.throttled for q in quotas), sum(q.periods for q in quotas)
        yield Disturbance("throttled", {"stopped": stopped, "periods": periods})
