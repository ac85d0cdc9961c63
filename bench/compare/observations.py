"""What the runs of a side say of each cell: its times, its statuses, and their reasons."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from bench.records import schema
from bench.stats.moderated import Key, Times

#: Statuses without a fault; faults, the worst first; those that are none of a new cell.
FAULTLESS = frozenset(("ok", "unstable"))
FAULTS = ("wrong", "error", "oom", "unsupported", "fallback")
REFUSALS = ("unsupported", "fallback")
#: Times of a cell on each side without which nothing is known of its noise.
FEWEST_TIMES = 2


def times(frame: pd.DataFrame) -> dict[Key, list[float]]:
    """Return the logarithm of one time for each run of each `ok` cell.

    The smallest on the CPU, where disturbance only adds; the median on devices with clocks of their
    own, which also speed up.
    """
    ok = frame[(frame.status == "ok") & (frame.median_s > 0)]
    found: dict[Key, list[float]] = {}
    columns = [*schema.CELL, "min_s", "median_s"]
    for *cell, least, median in ok[columns].to_numpy().tolist():
        key = tuple(map(str, cell))
        on_cpu = key[2] == "cpu" and least == least and least > 0
        found.setdefault(key, []).append(math.log(least if on_cpu else median))
    return found


@dataclass(frozen=True)
class Told:
    """What the runs of a side say of each cell: its times, and for each status its last reason."""

    times: Times
    said: Mapping[Key, Mapping[str, str]]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Told":
        """Return what the rows of a frame say."""
        columns = [*schema.CELL, "status", "reason"]
        said: dict[Key, dict[str, str]] = {}
        rows = frame[columns].drop_duplicates(keep="last").to_numpy().tolist()
        for *cell, status, reason in rows:
            text = ": ".join(filter(None, (str(status), str(reason))))
            said.setdefault(tuple(map(str, cell)), {})[str(status)] = text
        return cls(times(frame), said)

    def count(self, key: Key) -> int:
        """Return how many times of a cell can be used."""
        return len(self.times.get(key, ()))

    def flaw(self, key: Key) -> str | None:
        """Return the last status of a cell that is not `ok`, with its reason."""
        seen = [text for status, text in self.said[key].items() if status != "ok"]
        return seen[-1] if seen else None

    def faulty(self, key: Key) -> bool:
        """Whether every row of a cell has one and the same fault."""
        return len(self.said[key]) == 1 and not FAULTLESS & self.said[key].keys()


def broken(old: Told, new: Told) -> dict[Key, str]:
    """Return what went wrong in the candidate, where it is not the baseline's own fault.

    That is a fault of the same status in every row of the baseline. A cell that the baseline does
    not have may be refused by the backend: nothing was lost.
    """
    made = {}
    for key, said in new.said.items():
        known: Collection[str] = REFUSALS
        if key in old.said:
            known = old.said[key] if old.faulty(key) else ()
        found = [said[status] for status in FAULTS if status in said and status not in known]
        if found:
            made[key] = found[0]
    return made
