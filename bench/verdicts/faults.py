"""What is wrong, fails, leaves its device, or is refused."""

import itertools
import math
from collections.abc import Iterator

from bench.compare.cells import Cell
from bench.compare.estimates import FAULTS
from bench.verdicts.finding import NAMED, Verdict, cut, listed


def faults(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what is wrong, fails, or leaves its device, in all runs or in some of them."""
    flawed = [c for c in found if c.estimate.status in FAULTS or c.estimate.flawed]
    order = {status: place for place, status in enumerate((*FAULTS, "ok"))}

    def kind(cell: Cell) -> tuple[int, str, str]:
        return order[cell.estimate.status], cell.device, cell.benchmark

    for _, group in itertools.groupby(sorted(flawed, key=kind), kind):
        several = list(group)
        device, status = several[0].device, several[0].estimate.status
        for cell in several[:NAMED]:
            said = cut(cell.estimate.reason)
            said = said if status == "ok" else f"{status}: {said}"
            yield Verdict("fault", f"{cell.name} in {cell.dtype} on {device} is {said}", math.inf)
        if len(several) > NAMED:
            said = "fail in some runs" if status == "ok" else f"are {status}"
            text = f"{len(several) - NAMED} more of it on {device} {said}"
            yield Verdict("fault", text, math.inf)


def unsettled(found: list[Cell]) -> Iterator[Verdict]:
    """Tell how many cells have no time to say anything of."""
    count = sum(cell.estimate.status in ("unstable", "unmeasurable") for cell in found)
    if count:
        text = f"{count:,} of {len(found):,} cells could not be timed well enough to say anything "
        text += "of them"
        yield Verdict("unstable", text, 0.0)


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
