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
        large = [
            cell
            for cell in here
            if cell.family == "tensors" and (cell.bytes or 0) >= LARGE_BYTES
            if cell not in crossing
        ]
        copies, exceeded = _fastest(COPY.among(large), "bytes")
        if not copies:
            continue
        best, peak = copies[0], copies[0].rate("bytes")
        yield Finding(
            topic="bandwidth",
            subject=Subject.of(best),
            advice="at least" if exceeded else "",
            amount=peak,
            unit="B/s",
            n=len(copies),
        )
        for cell in large:
            rate = cell.rate("bytes")
            if 0 < rate < LOW_SHARE * peak and not _computes(cell, here, peak):
                yield Finding(
                    topic="far below",
                    subject=Subject.of(cell),
                    advice="at most" if exceeded else "",
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
        timed, exceeded = _fastest(here, "flop")
        if not timed:
            continue
        yield Finding(
            topic="arithmetic",
            subject=Subject.of(timed[0]),
            advice="at least" if exceeded else "",
            amount=timed[0].rate("flop"),
            unit="FLOP/s",
            n=len(timed),
        )


def _fastest(cells: list[Cell], work: str) -> tuple[list[Cell], bool]:
    """Return the cells by `work` per second, and whether one that is not settled may be first."""
    timed = sorted((c for c in cells if c.rate(work)), key=lambda c: c.rate(work), reverse=True)
    return timed, bool(timed and unsettled_rivals(cells, timed[0], work))


def _computes(cell: Cell, here: list[Cell], bandwidth: float) -> bool:
    """Whether arithmetic bounds a cell on its device, not the bandwidth in bytes/s.

    Its FLOP for each byte then lie beyond the ridge of the roofline: the best FLOP/s of its dtype
    over the bandwidth (S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009).
    """
    if not cell.flop or not cell.bytes:
        return False
    best = max(c.rate("flop") for c in here if c.dtype == cell.dtype)
    return cell.flop / cell.bytes > best / bandwidth
