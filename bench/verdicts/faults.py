"""Which cells are wrong, fail, leave their device, are refused, or could not be measured."""

import itertools
import math
from collections.abc import Iterator, Mapping

from bench.compare.cells import Cell
from bench.records.schema import FAULTS
from bench.verdicts.finding import Fault, Finding, Refusal, Subject

#: Cells of one kind of fault that are named; the rest are counted.
NAMED = 3


def faults(found: list[Cell]) -> Iterator[Finding]:
    """Find what is wrong, fails, or leaves its device, in all runs or (`ok`) in some of them."""
    flawed = [c for c in found if c.estimate.status in FAULTS or c.estimate.flawed]
    order = {status: place for place, status in enumerate((*FAULTS, "ok"))}

    def kind(cell: Cell) -> tuple[int, str, str]:
        return order[cell.estimate.status], cell.device, cell.name

    for _, group in itertools.groupby(sorted(flawed, key=kind), kind):
        several = list(group)
        for cell in several[:NAMED]:
            status, reason = cell.estimate.status, cell.estimate.reason
            yield Fault(topic="fault", subject=Subject.of(cell), advice=status, reason=reason)
        if len(several) > NAMED:
            more = several[NAMED]
            yield Finding(
                topic="more faults",
                subject=Subject(more.device, benchmark=more.name),
                advice=more.estimate.status,
                n=len(several) - NAMED,
                worth=math.inf,
            )


def unsettled(found: list[Cell]) -> Iterator[Finding]:
    """Count the cells whose time is too uncertain to compare."""
    count = sum(cell.estimate.status in ("unstable", "unmeasurable") for cell in found)
    if count:
        yield Finding(topic="unstable", subject=Subject(), n=count, total=len(found))


def unsupported(found: list[Cell]) -> Iterator[Finding]:
    """Find what each device refuses in each dtype."""
    places: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in found:
        place = places.setdefault((cell.device, cell.dtype), {})
        place.setdefault(cell.name, []).append(cell)
    for (device, dtype), by_benchmark in places.items():
        counts = {
            benchmark: sum(cell.estimate.status == "unsupported" for cell in cells)
            for benchmark, cells in by_benchmark.items()
        }
        refused = {name: _refused(by_benchmark[name]) for name, count in counts.items() if count}
        if refused:
            subject, n = Subject(device, dtype), sum(counts.values())
            yield Refusal(topic="unsupported", subject=subject, refused=refused, n=n)


def _refused(cells: list[Cell]) -> Mapping[str, tuple[str, ...]] | tuple[Subject, ...]:
    """Return the values of as few params as separate the refused cells of a benchmark."""
    refused = [cell for cell in cells if cell.estimate.status == "unsupported"]
    names = dict.fromkeys(name for cell in cells for name in cell.params)
    spans = {name: dict.fromkeys(cell.params.get(name, "") for cell in refused) for name in names}
    alike = [c for c in cells if all(c.params.get(name, "") in spans[name] for name in names)]
    if len(alike) > len(refused):  # no values separate them from the other cells
        return tuple(map(Subject.of, refused))
    apart = [n for n in names if any(c.params.get(n, "") not in spans[n] for c in cells)]
    return {name: tuple(spans[name]) for name in apart}
