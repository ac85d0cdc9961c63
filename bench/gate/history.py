"""The times of each cell over the runs of a machine, and where their level changed."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.compare import files, observations
from bench.records import schema
from bench.records.schema import CellKey
from bench.stats import changepoints
from bench.stats.moderated import trimmed
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

    The levels are those of sessions: the runs of one resemble each other more than those of two.
    """
    frame = frame.assign(
        seconds=observations.seconds(frame),
        threads=files.texts(frame.threads),
        session=observations.sessions(frame),
    )
    ok = frame[frame.seconds.notna()].sort_values(["run_started", "run_id"], kind="stable")
    found = []
    for (machine, threads), here in ok.groupby(["machine", "threads"], sort=True):
        cells, logs, counts = [], [], []
        for key, rows in here.groupby(list(schema.CELL), sort=True):
            firsts = np.flatnonzero(rows.session.diff() != 0).tolist()  # the first of each session
            parts = np.split(np.log(rows.seconds.to_numpy()), firsts[1:])
            cells.append((CellKey(*map(str, key)), rows, firsts))
            logs.append([trimmed(part.tolist()).mean for part in parts])
            counts.append(list(map(len, parts)))
        levels = changepoints.find(logs, counts)
        for (cell, rows, firsts), steps in zip(cells, levels, strict=True):
            starts, changes = rows.run_started.tolist(), []
            causes = rows[list(CAUSES)].astype(str).to_numpy().tolist()
            for place, step in steps:
                if abs(step) > math.log1p(threshold):
                    run = firsts[place]
                    known = zip(CAUSES, causes[run - 1], causes[run], strict=True)
                    why = tuple(f"{name} {old} -> {new}" for name, old, new in known if old != new)
                    changes.append(Change(run, starts[run], relative(step), why))
            where = (str(machine), str(threads), cell)
            found.append(Series(*where, tuple(starts), tuple(rows.seconds), tuple(changes)))
    return found
