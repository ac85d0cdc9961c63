"""Find cells that are wrong, fail, leave their device, are refused, or are uncertain."""

from collections import Counter
from collections.abc import Iterator, Mapping

from bench.compare.cells import Cell, grouped
from bench.records.schema import FAULTS
from bench.verdicts.finding import Fault, Finding, Refusal, Subject, Unsettled

#: A cell was disturbed if other programs took this share of its rounds, or a reference kernel
#: beside it was slower by this factor than at its best.
STOLEN, SLOWED = 0.01, 1.1
#: Values of the params that are refused, or the params of each refused cell.
_Refused = Mapping[str, tuple[str, ...]] | tuple[tuple[tuple[str, str], ...], ...]


def faults(found: list[Cell]) -> Iterator[Finding]:
    """Find what is wrong, fails, or leaves its device, in all runs or (`ok`) in some of them."""
    cells = Counter(cell.device for cell in found)
    order = {status: place for place, status in enumerate((*FAULTS, "ok"))}
    flawed = [c for c in found if c.estimate.status in FAULTS or c.estimate.flawed]
    for cell in sorted(flawed, key=lambda c: (order[c.estimate.status], c.device, c.name)):
        yield Fault(
            topic="fault",
            subject=Subject.of(cell),
            advice=cell.estimate.status,
            reason=cell.estimate.reason,
            total=cells[cell.device],
        )


def unsettled(found: list[Cell]) -> Iterator[Finding]:
    """Count the cells whose time is too uncertain to compare, and what disturbed them."""
    uncertain = [c for c in found if c.estimate.status in ("unstable", "unmeasurable")]
    if uncertain:
        yield Unsettled(
            topic="unstable",
            subject=Subject(),
            n=len(uncertain),
            total=len(uncertain) + sum(cell.settled for cell in found),
            stolen=sum((cell.stolen or 0) > STOLEN for cell in uncertain),
            slowed=sum((cell.slowdown or 0) > SLOWED for cell in uncertain),
        )


def unsupported(found: list[Cell]) -> Iterator[Finding]:
    """Find what each device refuses, by reason."""
    benchmarks = grouped(found, lambda cell: (cell.device, cell.dtype, cell.name))
    # Device and reason -> dtype -> benchmark -> what of it is refused.
    causes: dict[tuple[str, str], dict[str, dict[str, _Refused]]] = {}
    for (device, dtype, benchmark), cells in benchmarks.items():
        reasons = [c.estimate.reason for c in cells if c.estimate.status == "unsupported"]
        for reason in dict.fromkeys(reasons):
            by_dtype = causes.setdefault((device, reason), {})
            by_dtype.setdefault(dtype, {})[benchmark] = _refused(cells, reason)
    for (device, reason), by_dtype in causes.items():
        different: list[dict[str, _Refused]] = []
        for refused in by_dtype.values():
            if refused not in different:
                different.append(refused)
        for refused in different:
            dtypes = [dtype for dtype, other in by_dtype.items() if other == refused]
            yield Refusal(
                topic="unsupported",
                subject=Subject(device, dtypes[0] if len(dtypes) == 1 else ""),
                dtypes=tuple(dtypes),
                reason=reason,
                refused=refused,
            )


def _refused(cells: list[Cell], reason: str) -> _Refused:
    """Return the values of as few params as separate the refused cells of a benchmark."""
    kept = ("unsupported", reason)
    refused = [c for c in cells if (c.estimate.status, c.estimate.reason) == kept]
    names = dict.fromkeys(name for cell in cells for name in cell.params)
    spans = {name: dict.fromkeys(cell.params.get(name, "") for cell in refused) for name in names}
    alike = [c for c in cells if all(c.params.get(name, "") in spans[name] for name in names)]
    if len(alike) > len(refused):  # no values separate them from the other cells
        return tuple(tuple(cell.params.items()) for cell in refused)
    apart = [n for n in names if any(c.params.get(n, "") not in spans[n] for c in cells)]
    return {name: tuple(spans[name]) for name in apart}
