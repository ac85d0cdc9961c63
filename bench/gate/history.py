"""The times of each cell over the runs of a machine, and where their level changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.compare import files, observations
from bench.records import schema
from bench.records.schema import CellKey
from bench.stats import changepoints
from bench.stats.ratios import relative

#: Columns that may explain a change that coincides with theirs.
CAUSES = ("torch", "torchvision", "python", "driver", "suite_version", "os")


@dataclass(frozen=True)
class Change:
    """The first run of a new level, its change to the level before (0.1: 10 % more), and causes."""

    run: int
    started: str
    change: float
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """Seconds of a cell in the runs of a machine with so many threads, in order of time."""

    machine: str
    threads: str
    key: CellKey
    started: tuple[str, ...]
    seconds: tuple[float, ...]
    changes: tuple[Change, ...]


def series(frame: pd.DataFrame, threshold: float) -> list[Series]:
    """Return the history of each `ok` cell, with changes beyond `threshold` (0.05: 5 %).

    Raises NeedsRuptures.
    """
    frame = frame.assign(seconds=observations.seconds(frame), threads=files.texts(frame.threads))
    ok = frame[frame.seconds.notna()].sort_values(["run_started", "run_id"], kind="stable")
    found = []
    by = ["machine", "threads", *schema.CELL]
    for (machine, threads, *cell), rows in ok.groupby(by, sort=True):
        seconds = rows.seconds.tolist()
        causes = rows[list(CAUSES)].astype(str).to_numpy().tolist()
        starts = rows.run_started.tolist()
        logs = [math.log(value) for value in seconds]
        changes = tuple(
            Change(after, starts[after], relative(step), _causes(causes[after - 1], causes[after]))
            for after, step in changepoints.steps(logs)
            if abs(step) > math.log1p(threshold)
        )
        key = CellKey(*map(str, cell))
        where = (str(machine), str(threads), key)
        found.append(Series(*where, tuple(starts), tuple(seconds), changes))
    return found


def _causes(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    pairs = zip(CAUSES, before, after, strict=True)
    return tuple(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
