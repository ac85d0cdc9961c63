"""Can two sides be compared at all? What differs, what is unknown, and what moved together."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from bench.compare import files
from bench.compare.cells import grouped
from bench.gate.reason import Reason, reason
from bench.records import schema
from bench.records.schema import CellKey

#: Columns in which two sides must agree, and those whose differences are only reported.
HARD = ("cpu", "device_name", "threads", "suite_version")
SOFT = ("machine", "os", "python", "torch", "torchvision", "driver", "cpu_count", "memory_bytes")
#: Columns that differ by device: compared for the devices that both sides have.
_OF_DEVICE = ("device_name", "driver")
#: Hardware that is unknown where the column is blank: two blanks are no agreement.
_HARDWARE = ("cpu", "device_name")
#: Devices whose name is that of the CPU, or that an imported file does not name.
_WITHOUT_NAME = ("cpu", "unknown")
#: Cells move together if their changes are within this factor of each other, on a log scale, and
#: they are at least so many, of so many benchmarks, and this share of their device and dtype.
ALIKE, TOGETHER, BENCHMARKS, SHARE = 1.25, 3, 3, 0.1


def environment(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    vary: Sequence[str] = (),
    same_machine: bool = False,
) -> tuple[list[Reason], list[Reason]]:
    """Return what makes the sides incomparable, and what else differs.

    Unknown hardware makes them incomparable, unless the user vouches for the `same_machine`.
    Columns in `vary` may differ.
    """
    hard: list[Reason] = []
    soft: list[Reason] = []
    shared = set(baseline.device) & set(candidate.device)
    both = (baseline, candidate)
    of_devices = [frame[frame.device.isin(shared)] for frame in both]
    # The version of another suite is its commit, and commits are what is compared.
    imported = all(frame.run_id.str.startswith(schema.IMPORTED).all() for frame in both)
    must_agree = [name for name in HARD if not (imported and name == "suite_version")]
    for column in (*HARD, *SOFT):
        frames = of_devices if column in _OF_DEVICE else both
        old, new = (tuple(sorted(files.values(frame[column]))) for frame in frames)
        if column in _HARDWARE and (unknown := _unknown(column, frames)):
            note = reason("unknown hardware", column=column, sides=unknown)
            (soft if same_machine or column in vary else hard).append(note)
        elif old != new:
            note = reason("differs", column=column, baseline=old, candidate=new)
            (hard if column in must_agree and column not in vary else soft).append(note)
    return hard, soft


def _unknown(column: str, frames: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    """Return the sides on which some row leaves the hardware blank."""
    if column == "device_name":
        frames = [frame[~frame.device.isin(_WITHOUT_NAME)] for frame in frames]
    names = zip(("baseline", "candidate"), frames, strict=True)
    return tuple(name for name, frame in names if (frame[column] == "").any())


def moved_together(
    changed: Sequence[tuple[CellKey, float]], judged: Sequence[CellKey]
) -> list[Reason]:
    """Return groups of cells that changed by the same factor while the others did not.

    `changed` holds cells that all became slower, or all faster, and their changes (0.1 is 10 %
    slower), of all that were `judged`. Two machines of one CPU model may differ like that: in one
    kind of work, such as memory traffic, and in nothing else. Cells of few benchmarks are no such
    group: their code has changed.
    """
    found = []
    totals = Counter(key.place for key in judged)
    way = "slower" if any(change > 0 for _, change in changed) else "faster"
    for (device, dtype), cells in grouped(changed, lambda each: each[0].place).items():
        total = totals[device, dtype]
        group = _largest_group(sorted((abs(math.log1p(change)), key) for key, change in cells))
        benchmarks = sorted({key.benchmark for _, key in group})
        if len(group) >= max(TOGETHER, SHARE * total) and len(benchmarks) >= BENCHMARKS:
            log = statistics.median(log for log, _ in group)
            change = math.expm1(log) if way == "slower" else -math.expm1(-log)
            what = {"cells": len(group), "total": total, "benchmarks": tuple(benchmarks)}
            what |= {"device": device, "dtype": dtype, "change": change, "way": way}
            found.append(reason("moved together", **what))
    return found


def _largest_group(ordered: list[tuple[float, CellKey]]) -> list[tuple[float, CellKey]]:
    """Return the largest run of sorted changes that are within `ALIKE` of each other."""
    best: list[tuple[float, CellKey]] = []
    start = 0
    for end, (log, _) in enumerate(ordered):
        while log > ALIKE * ordered[start][0]:
            start += 1
        if end + 1 - start > len(best):
            best = ordered[start : end + 1]
    return best
