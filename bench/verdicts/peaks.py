"""What the machine reaches at best, and what stays far below."""

import math
from collections.abc import Iterator

from bench.compare.cells import Cell
from bench.verdicts.finding import Verdict, amount

#: A bandwidth-bound operation below this share of the measured bandwidth leaves something behind.
LOW_SHARE = 0.25
#: Working sets from here on are read from memory rather than from a cache, on most machines.
LARGE_BYTES = 64 * 2**20

#: What crosses between host and device: the link bounds it, not the device's memory.
CROSSING = ("host_to_device", "device_to_host", "uint8_images")


def peaks(found: list[Cell]) -> Iterator[Verdict]:
    """Tell the peaks that were measured, and which large operations stay far below."""
    for device in dict.fromkeys(cell.device for cell in found):
        here = [cell for cell in found if cell.device == device]
        large = [
            cell
            for cell in here
            if cell.family == "tensors"
            and (cell.bytes or 0) >= LARGE_BYTES
            and (device == "cpu" or cell.benchmark not in CROSSING)
        ]
        moved = {c.name + c.dtype: (c, r) for c in large if (r := c.rate(c.bytes))}
        copies = [pair for pair in moved.values() if pair[0].benchmark == "copy"]
        if copies:
            best, peak = max(copies, key=lambda pair: pair[1])
            text = f"{device} moves {amount(peak, 'B')} in its best copy "
            yield Verdict("peak", f"{text}({best.setting} in {best.dtype})", 0.0)
            for cell, rate in moved.values():
                if rate < LOW_SHARE * peak and not _computes(cell, here, peak):
                    share = f"{rate / peak:.0%}"
                    text = f"{cell.name} in {cell.dtype} on {device} reaches {share} of that"
                    yield Verdict("peak", text, math.log(peak / rate))
        products = [
            (cell, flops)
            for cell in here
            if cell.benchmark == "matmul" and (flops := cell.rate(cell.flop))
        ]
        for dtype in dict.fromkeys(cell.dtype for cell, _ in products):
            best, peak = max((p for p in products if p[0].dtype == dtype), key=lambda p: p[1])
            text = f"{device} computes {amount(peak, 'FLOP')} in its best {dtype} matmul "
            text += f"({best.setting})"
            yield Verdict("peak", text, 0.0)


def _computes(cell: Cell, here: list[Cell], bandwidth: float) -> bool:
    """Whether arithmetic bounds a cell on its device, not the bandwidth in bytes/s.

    Its FLOP for each byte then lie beyond the ridge of the roofline: the best FLOP/s of its dtype
    over the bandwidth (S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009).
    """
    if not cell.flop or not cell.bytes:
        return False
    best = max(c.rate(c.flop) or 0.0 for c in here if c.dtype == cell.dtype)
    return cell.flop / cell.bytes > best / bandwidth
