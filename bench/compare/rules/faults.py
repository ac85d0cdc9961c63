"""What is wrong, fails, leaves its device, or is refused."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from bench.compare.cells import Cell
from bench.compare.verdict import NAMED, Verdict, cut, listed
from bench.records import schema

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
                yield Verdict("fault", text + cut(cell.estimate.reason), math.inf)
            if len(several) > NAMED:
                more = len(several) - NAMED
                yield Verdict("fault", f"{more} more of it on {device} are {status}", math.inf)


def sometimes(frame: pd.DataFrame) -> Iterator[Verdict]:
    """Tell what failed or left its device in some runs, and was timed in others."""
    failed = frame[frame.status.isin(FAULTS[1:])]
    if failed.empty:
        return
    names = list(schema.CELL)
    told: Counter[tuple[str, str]] = Counter()
    for key, rows in frame.merge(failed[names].drop_duplicates()).groupby(names):
        _, benchmark, device, dtype, params = map(str, key)
        bad = rows[rows.status.isin(FAULTS[1:])]
        if "wrong" in set(rows.status) or "ok" not in set(rows.status):
            continue
        told[device, benchmark] += 1
        if told[device, benchmark] <= NAMED:
            worst = bad.iloc[bad.status.map(FAULTS.index).argmin()]
            name = " ".join(filter(None, (benchmark, params.replace(";", " "))))
            text = f"{name} in {dtype} on {device} is {worst.status} in {len(bad)} of "
            text += f"{len(rows)} runs: {cut(worst.reason)}"
            yield Verdict("fault", text, math.inf)
    for (device, _), count in told.items():
        if count > NAMED:
            text = f"{count - NAMED} more of it on {device} fail in some runs"
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
