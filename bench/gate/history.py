"""The times of each cell over the runs of a machine, and where they changed for good."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.compare import files
from bench.records import schema
from bench.stats import changepoints
from bench.stats.moderated import Key
from bench.stats.ratios import relative

#: What may explain a change, if it changed with it.
CAUSES = ("torch", "torchvision", "python", "driver", "suite_version", "os")


@dataclass(frozen=True)
class Change:
    """The first run of a new level, how much it is off the last one (0.1: 10 % more), and why."""

    run: int
    started: str
    change: float
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """Seconds of a cell in the runs of a machine with so many threads, in order of time."""

    machine: str
    threads: str
    key: Key
    started: tuple[str, ...]
    seconds: tuple[float, ...]
    changes: tuple[Change, ...]


def series(frame: pd.DataFrame, threshold: float) -> list[Series]:
    """Return the history of each `ok` cell, with changes beyond `threshold` (0.05: 5 %).

    Raises NeedsRuptures.
    """
    ok = frame[(frame.status == "ok") & (frame.median_s > 0)]
    ok = ok.assign(
        seconds=ok.median_s.where((ok.device != "cpu") | ~(ok.min_s > 0), ok.min_s),
        threads=files.texts(ok.threads),
    ).sort_values(["run_started", "run_id"], kind="stable")
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
        key = tuple(map(str, cell))
        made = (str(machine), str(threads), key, tuple(starts), tuple(seconds), changes)
        found.append(Series(*made))
    return found


def _causes(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    pairs = zip(CAUSES, before, after, strict=True)
    return tuple(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
