"""The times of each cell over the runs of a machine, and where they changed for good."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.compare import files
from bench.compare.gate import relative
from bench.compare.replicates import Key
from bench.records import schema

#: A level that fewer runs hold is a fluke, not a change; below twice as many nothing is looked for.
FEWEST = 4
#: Noise below this share is not believed: two runs may agree by chance.
LEAST_NOISE = 0.01
#: What may explain a change, if it changed with it.
CAUSES = ("torch", "torchvision", "python", "driver", "suite_version", "os")


class NeedsRuptures(Exception):
    """The library that finds the changes is not installed; the message is one line."""


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
            for after, step in steps(logs)
            if abs(step) > math.log1p(threshold)
        )
        key = tuple(map(str, cell))
        made = (str(machine), str(threads), key, tuple(starts), tuple(seconds), changes)
        found.append(Series(*made))
    return found


def _causes(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    pairs = zip(CAUSES, before, after, strict=True)
    return tuple(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)


def noise(logs: Sequence[float]) -> float:
    """Return the standard deviation of a series around its levels, whatever they are.

    By the median of the steps from one value to the next, most of which cross no change (as of
    P. Hall, J. Kay and D. Titterington, Biometrika 77, 1990, with the median for the mean).
    """
    steps = [abs(b - a) for a, b in itertools.pairwise(logs)]
    return max(LEAST_NOISE, 1.4826 * statistics.median(steps) / math.sqrt(2))


def steps(logs: Sequence[float]) -> list[tuple[int, float]]:
    """Return where the level of a series changes, and by how much.

    PELT (R. Killick and others, Journal of the American Statistical Association 107, 2012) with the
    absolute deviation from the median of a level as its cost, so that single flukes do not make
    one. The penalty is such that of 600 modelled series without a change, a twentieth of whose
    values were outliers, none had one, and a change by 10 % at a noise of 2 % was found in 94 %
    of series of 20 runs and more.

    Raises NeedsRuptures.
    """
    try:
        import ruptures
    except ImportError:
        what = "bench history finds changes with ruptures"
        raise NeedsRuptures(f"{what}: pip install 'torch-device-bench[history]'") from None
    if len(logs) < 2 * FEWEST:
        return []
    import numpy as np

    scaled = np.array(logs)[:, None] / noise(logs)
    penalty = 1.5 * math.log(len(logs)) + 6
    search = ruptures.Pelt(model="l1", min_size=FEWEST, jump=1)
    ends = [0, *search.fit(scaled).predict(pen=penalty)]
    levels = [statistics.median(logs[a:b]) for a, b in itertools.pairwise(ends)]
    inner = zip(ends[1:-1], itertools.pairwise(levels), strict=True)
    return [(end, after - before) for end, (before, after) in inner]
