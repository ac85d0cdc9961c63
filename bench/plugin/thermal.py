"""Compare the end of a run with its start: an accelerator slows down when it gets hot."""

import statistics
from collections.abc import Iterable, Sequence

from bench.measure.kernels import ReferenceKernel
from bench.plugin.revisits import Timed
from bench.report import reasons

#: Readings of the reference kernel at the start, and at the end, of which the median counts.
READINGS = 5


def lines(cells: Sequence[Timed], kernels: Iterable[ReferenceKernel]) -> list[str]:
    """Return a line on each accelerator that was notably slower at the end of the run.

    `cells` are in the order of their first visits.
    """
    found = []
    for kernel in kernels:
        here = [timed for timed in cells if kernel.name in timed.result.visits[0].kernels_s]
        if not kernel.device or len(here) < 2 * READINGS:
            continue
        early = [timed.result.visits[0] for timed in here[:READINGS]]
        late = [t.result.visits[-1] for t in sorted(here, key=lambda timed: timed.visited)]
        start, end = (
            statistics.median(visit.kernels_s[kernel.name] for visit in visits)
            for visits in (early, late[-READINGS:])
        )
        if end >= kernel.limit * start:
            found.append(reasons.heated(kernel.device, end / start))
    return found
