"""Machines that differ from others of the same hardware: which, in what, and by how much.

The deviation of a run in a cell is ln(time) minus the median of all machines of that hardware,
divided by 1.4826 times the median absolute deviation (the robust z of B. Iglewicz and D. Hoaglin,
"How to detect and handle outliers", 1993). Both medians are over machines, and a machine enters
with the median of its own runs, so that many runs do not outvote the others. A cell whose machines
agree by chance gets the deviation that is usual among cells. The p-value of a deviation comes from
Student's t distribution, with Holm's correction over all runs and cells.

A single such cell may be chance in one run. So groups of cells are tested: all of a device, all of
a benchmark, and those of a benchmark from some size on or up to it. A group is an outlier if it has
more deviating cells than the rate of equally large deviations in the rest of the fleet explains (in
which each machine has one vote per cell, shared by its runs), by the binomial distribution with
Bonferroni's correction over all machines and groups.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import bdtrc, stdtr

from bench.compare import observations
from bench.records.schema import CELL
from bench.stats.multiplicity import holm
from bench.stats.ratios import relative
from bench.stats.robust import standard_deviation

#: Fewest machines of one hardware that are compared.
FEWEST = 5
#: Chance of naming a machine in a fleet of equal ones; deviations below `LEAST` are not reported.
ALPHA, LEAST = 0.01, math.log(1.05)
#: Share of a group that must deviate, and share of the group's median deviation from which on other
#: deviations count as equally large.
MOSTLY, ALIKE = 0.6, 0.8
#: Most degrees of freedom: times have longer tails than a normal distribution.
DEGREES = 30
HARDWARE = ("cpu", "device_name", "threads")
_SIZE = re.compile(r"(?:^|;)(\w+)=(\d+(?:\.\d+)?)(?=;|$)")


@dataclass(frozen=True)
class Outlier:
    """What is off at a machine: its median change (0.1: 10 % slower) over `cells` of `of`."""

    machine: str
    others: int
    device: str
    what: str
    where: str
    change: float
    cells: int
    of: int


@dataclass(frozen=True)
class Fleet:
    """Machines of one hardware: how many, with how many cells, and those that are off."""

    hardware: str
    machines: int
    cells: int
    outliers: tuple[Outlier, ...]


def find(frame: pd.DataFrame, same_machine: bool = False) -> list[Fleet]:
    """Return every kind of hardware that has enough machines, with what is off in it.

    Machines whose CPU is unknown are not compared with each other, unless the user vouches for it
    by `same_machine`: their fleet has no hardware, no cells and no outliers.

    `frame` holds result rows of any number of machines, each run of a machine once.
    """
    machine = frame.groupby(["machine", *CELL], dropna=False).ngroup().to_numpy()
    seconds = observations.seconds(frame).mask(observations.wrong_somewhere(frame, machine))
    frame = frame.assign(log=np.log(seconds))
    fleets = []
    for hardware, rows in frame.groupby(list(HARDWARE), sort=True, dropna=False):
        machines = rows.machine.nunique()
        if machines < FEWEST or rows.log.isna().all():
            continue
        if not hardware[0] and not same_machine:
            fleets.append(Fleet("", machines, 0, ()))
            continue
        runs = _numbered(rows, ["machine", "run_id"])
        timed = rows[rows.log.notna()]
        cells = _numbered(timed, list(CELL))
        table = np.full((cells.max() + 1, runs.max() + 1), np.nan)
        table[cells, runs[rows.log.notna()]] = timed.log
        labels = rows.machine.to_numpy()[np.unique(runs, return_index=True)[1]]
        of_cells = timed.iloc[np.unique(cells, return_index=True)[1]].reset_index(drop=True)
        cpu, device, threads = map(str, hardware)
        name = (cpu or "unknown hardware") + (
            f", {threads} threads" if rows.threads.notna().all() else ""
        )
        name += "" if device == cpu else f", {device}"
        found = tuple(_outliers(table, of_cells, labels))
        fleets.append(Fleet(name, machines, len(table), found))
    return fleets


def _numbered(rows: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Return the number of each row's group, in sorted order."""
    return rows.groupby(columns, sort=True, dropna=False).ngroup().to_numpy()


def _of_machines(table: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the median over the runs of each machine (cells x machines), NaN where none is timed.

    `starts` holds the first column of each.
    """
    runs = np.diff(starts, append=table.shape[1])
    made = np.empty((len(table), len(starts)))
    for count in np.unique(runs):  # all machines of so many runs at once
        places = np.flatnonzero(runs == count)
        values = np.sort(table[:, starts[places, None] + np.arange(count)], axis=2)
        timed = (~np.isnan(values)).sum(axis=2, keepdims=True)  # what is not is sorted last
        middle = [np.maximum(timed - 1, 0) // 2, timed // 2]
        lower, upper = (np.take_along_axis(values, place, axis=2) for place in middle)
        made[:, places] = ((lower + upper) / 2)[:, :, 0]
    return made


def _flagged(table: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviations (cells x runs, logarithms), and which of them are significant."""
    each = _of_machines(table, starts)
    enough = (~np.isnan(each)).sum(axis=1) >= FEWEST
    off = table - np.nanmedian(each, axis=1, keepdims=True)
    spread = standard_deviation(np.nanmedian(_of_machines(np.abs(off), starts), axis=1))
    usual = np.nanmedian(spread[enough]) if enough.any() else math.nan
    z = off / np.maximum(np.maximum(spread, usual), 1e-9)[:, None]
    degrees = min(DEGREES, len(starts) - 1)
    judged = enough[:, None] & ~np.isnan(z)
    flagged = np.zeros(z.shape, bool)
    flagged[judged] = holm(2 * stdtr(degrees, -np.abs(z[judged]))) <= ALPHA
    return off, flagged & (np.abs(off) > LEAST)


@dataclass(frozen=True)
class _Flukes:
    """How far cells are off in one direction, sorted, and the votes of all that are at least so."""

    sizes: np.ndarray
    votes: np.ndarray

    @classmethod
    def of(cls, hit: np.ndarray, vote: np.ndarray) -> "_Flukes":
        sizes, votes = hit[hit > 0], vote[hit > 0]
        order = np.argsort(sizes)
        return cls(sizes[order], np.append(np.cumsum(votes[order][::-1])[::-1], 0.0))

    def beyond(self, least: float) -> float:
        """Return the votes of those that are off by `least` or more."""
        return float(self.votes[np.searchsorted(self.sizes, least)])


@dataclass(frozen=True)
class _Group:
    """Cells that may deviate together; `where` names the sizes of a benchmark."""

    device: str
    what: str
    where: str
    rows: np.ndarray


def _groups(cells: pd.DataFrame) -> list[_Group]:
    """Return every group of cells that is tested."""
    found = []
    for device, of_device in cells.groupby("device"):
        found.append(_Group(str(device), "everything", "", of_device.index.to_numpy()))
        for benchmark, own in of_device.groupby("benchmark"):
            one = (str(device), str(benchmark))
            found.append(_Group(*one, "", own.index.to_numpy()))
            sizes: dict[str, dict[float, list[int]]] = {}
            for place, text in zip(own.index.tolist(), own.params, strict=True):
                for name, value in _SIZE.findall(text):
                    sizes.setdefault(name, {}).setdefault(float(value), []).append(place)
            for name, places in sizes.items():
                values = sorted(places)
                for cut in range(1, len(values)):
                    upper = [i for value in values[cut:] for i in places[value]]
                    lower = [i for value in values[:cut] for i in places[value]]
                    where = f"from {name}={values[cut]:.15g} on"
                    found.append(_Group(*one, where, np.array(upper)))
                    where = f"up to {name}={values[cut - 1]:.15g}"
                    found.append(_Group(*one, where, np.array(lower)))
    return found


def _outliers(table: np.ndarray, cells: pd.DataFrame, labels: np.ndarray) -> list[Outlier]:
    """Return what is off in logarithms of times (cells x runs); the runs are sorted by machine."""
    names, starts = np.unique(labels, return_index=True)
    off, flagged = _flagged(table, starts)
    timed = ~np.isnan(table)
    runs = np.add.reduceat(timed.astype(np.int32), starts, axis=1)
    vote = 1 / np.repeat(np.maximum(runs, 1), np.diff(starts, append=len(labels)), axis=1)
    groups = _groups(cells)
    member = np.zeros((len(groups), len(cells)), np.float32)
    for place, group in enumerate(groups):
        member[place, group.rows] = 1
    total = np.add.reduceat(member @ timed.astype(np.float32), starts, axis=1)
    ends = [*starts[1:], len(labels)]
    bound = ALPHA / (2 * len(names) * len(groups))
    found = []
    for sign in (1, -1):
        hit = np.where(flagged, np.maximum(sign * off, 0.0), 0.0)
        flukes = _Flukes.of(hit, vote)
        count = np.add.reduceat(member @ (hit > 0).astype(np.float32), starts, axis=1)
        likely = count >= np.maximum(1.0, MOSTLY * total)
        for machine in np.flatnonzero(likely.any(axis=0)):
            own = slice(starts[machine], ends[machine])
            some = [groups[place] for place in np.flatnonzero(likely[:, machine])]
            rest = int((runs > 0).sum() - (runs[:, machine] > 0).sum())
            of_own = hit[:, own], timed[:, own], vote[:, own]
            for group in _separate(some, *of_own, flukes, rest, bound):
                here = hit[group.rows, own]
                change = relative(sign * float(np.median(here[here > 0])))
                counts = int((here > 0).any(axis=1).sum()), len(group.rows)
                one = (str(names[machine]), len(names) - 1, group.device, group.what, group.where)
                found.append(Outlier(*one, change, *counts))
    return sorted(found, key=lambda each: (-abs(math.log1p(each.change)), each.machine))


def _separate(
    groups: Sequence[_Group],
    hit: np.ndarray,
    timed: np.ndarray,
    vote: np.ndarray,
    flukes: _Flukes,
    rest: int,
    bound: float,
) -> list[_Group]:
    """Return the groups that deviate, without those that share a cell with a larger one.

    `hit` (cells x runs of the machine) holds how far each cell is off in one direction, 0 where
    that is chance, and `flukes` the same of all machines; the other machines have `rest` votes.
    """
    sure = []
    for group in groups:
        own = hit[group.rows]
        off, total = int((own > 0).sum()), int(timed[group.rows].sum())
        least = ALIKE * float(np.median(own[own > 0]))
        alike = int((own >= least).sum())
        others = flukes.beyond(least) - vote[hit >= least].sum()
        # Half a fluke more than seen: none in the sample does not mean a rate of 0.
        rate = (others + 0.5) / (rest + 1)
        # P(at least `alike` of `total` by chance).
        if bdtrc(alike - 1, total, rate) < bound:
            sure.append((off, off / total, group))
    sure.sort(key=lambda each: (-each[0], -each[1]))
    kept: list[_Group] = []
    taken = np.zeros(len(hit), bool)
    for _, _, group in sure:
        if not taken[group.rows].any():
            taken[group.rows] = True
            kept.append(group)
    return kept
