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
        by_time = sorted(cells, key=lambda timed: timed.visited)
        early, late = (
            [one.kernels_s[kernel.name] for one in visits if kernel.name in one.kernels_s]
            for visits in (
                [timed.result.visits[0] for timed in cells],
                [timed.result.visits[-1] for timed in by_time],
            )
        )
        if not kernel.device or min(len(early), len(late)) < 2 * READINGS:
            continue
        start, end = statistics.median(early[:READINGS]), statistics.median(late[-READINGS:])
        if end >= kernel.limit * start:
            found.append(reasons.heated(kernel.device, end / start))
    return found
