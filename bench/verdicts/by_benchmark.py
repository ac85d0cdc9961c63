"""How a device compares with the CPU in each benchmark that no sweep answers."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.compare.cells import Cell, grouped
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Finding, Subject, compared
from bench.verdicts.grouped import pairs_of_devices
from bench.verdicts.sizes import devices, place


@dataclass(frozen=True, kw_only=True)
class ByBenchmark(Finding):
    """How the cells of a benchmark compare; the geometric mean is `amount`, without a unit.

    `best` and `worst` are the cells with the smallest and the largest of the notable ratios;
    `faster` and `slower` count these, of `n` cells. `advice` is `faster` or `slower` if all notable
    ones are, otherwise `mixed`.
    """

    best: tuple[Subject, Ratio]
    worst: tuple[Subject, Ratio]
    faster: int
    slower: int

    @property
    def effect(self) -> float:
        """That of the largest difference."""
        return max(self.best[1].factor, self.worst[1].factor)


def benchmarks(found: list[Cell]) -> Iterator[Finding]:
    """Find how a device compares with the CPU for each benchmark that no sweep answers."""
    swept = {
        (one.param, (to.device, to.dtype, to.benchmark, tuple(to.params.items())))
        for one in devices(found)
        if (to := one.subject)
    }
    pairs = [pair for pair in pairs_of_devices(found) if pair[0].estimate.likely]
    others = [
        (cell, host)
        for cell, host in pairs
        if not any((param, place(cell, param)) in swept for param in cell.params)
    ]
    by_name = grouped(others, lambda pair: (pair[0].device, pair[0].dtype, pair[0].name))
    for (device, dtype, name), several in by_name.items():
        known = [
            (Subject.of(cell), ratio)
            for cell, host in several
            if (ratio := compared(cell, host, len(pairs)))
        ]
        if not known:
            continue
        known.sort(key=lambda one: one[1].value)
        times = [(c.estimate.likely or 0) / (h.estimate.likely or 1) for c, h in several]
        faster = sum(ratio.value < 1 for _, ratio in known)
        slower = len(known) - faster
        yield ByBenchmark(
            topic="benchmark",
            subject=Subject(device, dtype, name),
            advice="mixed" if faster and slower else "faster" if faster else "slower",
            amount=statistics.geometric_mean(times),
            rival=Subject(several[0][1].device, dtype, name),
            best=known[0],
            worst=known[-1],
            faster=faster,
            slower=slower,
            n=len(several),
        )
