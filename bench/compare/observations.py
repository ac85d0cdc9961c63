"""What the runs of a side observed of each cell: its times, its statuses, and their reasons."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.records.schema import CELL, FAULTLESS, REFUSALS, SEVERITY, CellKey, cell_keys
from bench.stats.moderated import Times

#: Times of a cell that each side needs to estimate the noise.
FEWEST_TIMES = 2
#: Runs that start within so many seconds of the one before are of one session.
SESSION_S = 3600.0


def time_column(device: str) -> str:
    """Return the column of the time that is compared between runs.

    The minimum on the host, where disturbance only adds; the median on devices with clocks of
    their own, which also speed up.
    """
    return "min_s" if device == "cpu" else "median_s"


def timed(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows have a usable time: `ok` and above 0, which no clock can resolve."""
    return (frame.status == "ok") & (frame.median_s > 0)


def seconds(frame: pd.DataFrame) -> "pd.Series[float]":
    """Return the time of each row that is compared between runs, NaN if it has none.

    It is the column of `time_column`, or the median if a file has no minimum.
    """
    on_host = frame.device.map(time_column).eq("min_s") & (frame.min_s > 0)
    return frame.median_s.mask(on_host, frame.min_s).where(timed(frame))


def wrong_somewhere(frame: pd.DataFrame, group: np.ndarray) -> np.ndarray:
    """Return which rows belong to a group with a wrong answer.

    An answer that is wrong in one run is wrong, however fast the other runs were. `group` holds
    the number of the cell (and side) of each row.
    """
    return np.isin(group, group[(frame.status == "wrong").to_numpy()])


def times(frame: pd.DataFrame) -> dict[CellKey, list[float]]:
    """Return the logarithm of the time of each run, by cell."""
    chosen = seconds(frame)
    usable = chosen.notna()
    found: dict[CellKey, list[float]] = {}
    for key, value in zip(cell_keys(frame[usable]), chosen[usable].tolist(), strict=True):
        found.setdefault(key, []).append(math.log(value))
    return found


def sessions(frame: pd.DataFrame) -> "pd.Series[int]":
    """Return the number of the session of each row; machines share no session.

    A session ends if no run starts for an hour. The speed of the machine and the placement of
    memory differ more between sessions than within one.
    """
    names = ["machine", "run_started"]
    runs = frame[names].drop_duplicates().sort_values(names)
    starts = pd.to_datetime(
        runs.run_started.astype(object), errors="coerce", utc=True, format="ISO8601"
    )
    follows = starts.diff().dt.total_seconds() <= SESSION_S
    number = (~(follows & (runs.machine == runs.machine.shift()))).cumsum()
    rows = pd.MultiIndex.from_frame(frame[names])
    found = number.to_numpy()[pd.MultiIndex.from_frame(runs).get_indexer(rows)]
    return pd.Series(found, frame.index)


def sessions_of(baseline: pd.DataFrame, candidate: pd.DataFrame) -> tuple[bool, list[Times]]:
    """Return whether the sides share no session, and the baseline's times by session."""
    # The sides may give one machine different labels.
    both = pd.concat([baseline, candidate], ignore_index=True).assign(machine="")
    session = sessions(both)
    old, new = session[: len(baseline)].to_numpy(), session[len(baseline) :]
    apart = not {*old} & {*new}
    return apart, [times(rows) for _, rows in baseline.groupby(old)] if apart else []


def kernel(frame: pd.DataFrame) -> list[float]:
    """Return the logarithm of the reference kernel's time in each run that timed it.

    It is the median over the cells on the CPU.
    """
    rows = frame[(frame.device == "cpu") & (frame.core_s > 0)]
    return [math.log(seconds) for seconds in rows.groupby("run_id").core_s.median().tolist()]


@dataclass(frozen=True)
class Observations:
    """The times of each cell of a side, and for each of its statuses the last reason."""

    times: Times
    statuses: Mapping[CellKey, Mapping[str, str]]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Observations":
        """Return the observations in the rows of a frame."""
        rows = frame[[*CELL, "status", "reason"]].drop_duplicates(keep="last")
        statuses: dict[CellKey, dict[str, str]] = {}
        columns: Any = (cell_keys(rows), rows.status.tolist(), rows.reason.tolist())
        for key, status, reason in zip(*columns, strict=True):
            statuses.setdefault(key, {})[status] = ": ".join(filter(None, (status, reason)))
        return cls(times(frame), statuses)

    def count(self, key: CellKey) -> int:
        """Return how many usable times a cell has."""
        return len(self.times.get(key, ()))

    def flaw(self, key: CellKey) -> str | None:
        """Return the last status of a cell that is not `ok`, with its reason."""
        seen = [text for status, text in self.statuses[key].items() if status != "ok"]
        return seen[-1] if seen else None

    def faulty(self, key: CellKey) -> bool:
        """Whether every row of a cell has one and the same fault."""
        return len(self.statuses[key]) == 1 and not FAULTLESS & self.statuses[key].keys()


def broken(old: Observations, new: Observations) -> dict[CellKey, str]:
    """Return the fault of each cell of the candidate that is not a fault of the baseline too.

    That is a fault of the same status in every row of the baseline. A backend may refuse a cell
    that the baseline does not have: nothing was lost.
    """
    made = {}
    for key, statuses in new.statuses.items():
        known: Collection[str] = REFUSALS
        if key in old.statuses:
            known = old.statuses[key] if old.faulty(key) else ()
        faults = [s for s in SEVERITY if s in statuses and s not in FAULTLESS and s not in known]
        if faults:
            made[key] = faults[0]
    return made
