"""What is wrong, fails, leaves its device, or is refused."""

import itertools
import math
from collections.abc import Iterator

from bench.compare.cells import Cell
from bench.compare.verdict import NAMED, Verdict, listed

#: Statuses that are told of each cell, worst first.
FAULTS = ("wrong", "error", "oom", "fallback")


def faults(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what is wrong, fails, or leaves its device."""
    order = sorted(found, key=lambda cell: (cell.device, cell.benchmark))
    for status in FAULTS:
        groups = itertools.groupby(
            [cell for cell in order if cell.estimate.status == status],
            key=lambda cell: (cell.device, cell.benchmark),
        )
        for (device, _), group in groups:
            several = list(group)
            for cell in several[:NAMED]:
                text = f"{cell.name} in {cell.dtype} on {device} is {status}: "
                yield Verdict("fault", text + cell.estimate.reason, math.inf)
            if len(several) > NAMED:
                more = len(several) - NAMED
                yield Verdict("fault", f"{more} more of it on {device} are {status}", math.inf)


def unsupported(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what each device refuses, by dtype."""
    places: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in found:
        place = places.setdefault((cell.device, cell.dtype), {})
        place.setdefault(cell.benchmark, []).append(cell)
    for (device, dtype), by_benchmark in places.items():
        names = [
            benchmark + (f" ({_refused(cells)})" if _refused(cells) else "")
            for benchmark, cells in by_benchmark.items()
            if any(cell.estimate.status == "unsupported" for cell in cells)
        ]
        if names:
            text = f"unsupported on {device} in {dtype}: {', '.join(names)}"
            yield Verdict("unsupported", text, 0.0)


def _refused(cells: list[Cell]) -> str:
    """Name the cells of one benchmark that are refused by as few params as it takes.

    Nothing needs to be said where all of them are.
    """
    refused = [cell for cell in cells if cell.estimate.status == "unsupported"]
    names = dict.fromkeys(name for cell in cells for name in cell.params)
    spans = {name: dict.fromkeys(cell.params.get(name, "") for cell in refused) for name in names}
    alike = [c for c in cells if all(c.params.get(name, "") in spans[name] for name in names)]
    if len(alike) > len(refused):  # the values do not tell the refused cells from the others
        return listed([cell.setting for cell in refused])
    told = [n for n in names if any(c.params.get(n, "") not in spans[n] for c in cells)]
    return " ".join(f"{name}={'|'.join(spans[name])}" for name in told)
