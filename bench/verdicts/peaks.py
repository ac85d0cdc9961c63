"""What the machine reaches at best, and which operations stay far below."""

from collections.abc import Iterator

from bench.compare.cells import Cell, grouped
from bench.verdicts.finding import Finding, Subject, per_unit, unsettled_rivals
from bench.verdicts.named import COPY, CROSSING, MATMUL

#: An operation below this share of the measured bandwidth is far below it.
LOW_SHARE = 0.25
#: On most machines, working sets from here on are read from memory rather than from a cache.
LARGE_BYTES = 64 * 2**20


def bandwidth(found: list[Cell]) -> Iterator[Finding]:
    """Find the best copy of each device, and large operations that stay far below it.

    The advice is `at least` if a copy that is not settled may be faster.
    """
    for device, here in grouped(found, lambda cell: cell.device).items():
        crossing = [] if device == "cpu" else [c for named in CROSSING for c in named.among(here)]
        every = [
            cell
            for cell in here
            if cell.family == "tensors" and (cell.bytes or 0) >= LARGE_BYTES
            if cell not in crossing
        ]
        large = [(cell, rate) for cell in every if (rate := cell.rate(cell.bytes))]
        copies = COPY.among(cell for cell, _ in large)
        if not copies:
            continue
        best = max(copies, key=lambda cell: cell.rate(cell.bytes) or 0.0)
        peak = best.rate(best.bytes) or 0.0
        rivals = unsettled_rivals(COPY.among(every), best, "bytes")
        yield Finding(
            topic="bandwidth",
            subject=Subject.of(best),
            advice="at least" if rivals else "",
            amount=peak,
            unit="B/s",
            n=len(copies),
        )
        for cell, rate in large:
            if rate < LOW_SHARE * peak and not _computes(cell, here, peak):
                yield Finding(
                    topic="far below",
                    subject=Subject.of(cell),
                    advice="at most" if rivals else "",
                    ratio=per_unit(cell, best, "bytes"),
                    amount=rate,
                    unit="B/s",
                    rival=Subject.of(best),
                    rival_amount=peak,
                    n=2,
                )


def arithmetic(found: list[Cell]) -> Iterator[Finding]:
    """Find the best matmul of each device and dtype, `at least` as in `bandwidth`."""
    for here in grouped(MATMUL.among(found), lambda cell: (cell.device, cell.dtype)).values():
        timed = [cell for cell in here if cell.rate(cell.flop)]
        if not timed:
            continue
        best = max(timed, key=lambda cell: cell.rate(cell.flop) or 0.0)
        rivals = unsettled_rivals(here, best, "flop")
        yield Finding(
            topic="arithmetic",
            subject=Subject.of(best),
            advice="at least" if rivals else "",
            amount=best.rate(best.flop),
            unit="FLOP/s",
            n=len(timed),
        )


def _computes(cell: Cell, here: list[Cell], bandwidth: float) -> bool:
    """Whether arithmetic bounds a cell on its device, not the bandwidth in bytes/s.

    Its FLOP for each byte then lie beyond the ridge of the roofline: the best FLOP/s of its dtype
    over the bandwidth (S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009).
    """
    if not cell.flop or not cell.bytes:
        return False
    best = max(c.rate(c.flop) or 0.0 for c in here if c.dtype == cell.dtype)
    return cell.flop / cell.bytes > best / bandwidth
