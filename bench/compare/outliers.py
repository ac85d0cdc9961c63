"""Machines that differ from others of the same hardware: which, in what, and by how much.

The deviation of a run in a cell is ln(time) minus the median of all machines of that hardware,
divided by 1.4826 times the median absolute deviation (the robust z of B. Iglewicz and D. Hoaglin,
"How to detect and handle outliers", 1993). Both medians are over machines, and a machine enters
with the median of its own runs, so that many runs do not outvote the others. A cell whose machines
agree by chance gets the deviation that is usual among cells.

A cell that deviates may be chance, however far: times have long tails. So the evidence is that of
groups of cells: all of a device, all of a benchmark, and those of a benchmark from some size on or
up to it. A group is an outlier if its median deviation is large enough to report, and if chance
does not explain how many of its cells deviate as far as all of them, or four fifths, do. Chance has
the rate of such deviations in the rest of the fleet, where each machine has one vote per cell,
shared by its runs. The test is binomial, with Bonferroni's correction over all machines and groups.
Few cells that are far off suffice, and so do many that are a little off. The machines of a fleet
are never quite equal: the median must also be six times as far off as that of the usual machine.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import bdtrc

from bench.compare import observations
from bench.records.schema import CELL
from bench.stats.ratios import MAD_DEVIATIONS, relative

#: Fewest machines of one hardware that are compared.
FEWEST = 5
#: Chance of naming a machine in a fleet of equal ones; deviations below `LEAST` are not reported.
ALPHA, LEAST = 0.01, math.log(1.05)
#: A machine is off if it deviates by so many times what machines differ anyway.
UNLIKE = 6.0
#: Share of a group that must deviate, and share of the group's median deviation from which on
#: deviations count.
MOSTLY, ALIKE = 0.6, 0.5
#: Shares of a group that need not deviate as far as the rest of it.
LEFT_OUT = (0.0, 0.2)
HARDWARE = ("cpu", "device_name", "threads")
_SIZE = re.compile(r"(?:^|;)(\w+)=(\d+(?:\.\d+)?)(?=;|$)")


@dataclass(frozen=True)
class Outlier:
    """What is unusual at a machine: its median change (0.1: 10 % slower) in `cells` of `of`."""

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
    """Machines of one hardware: how many, with how many cells, and what is unusual."""

    hardware: str
    machines: int
    cells: int
    outliers: tuple[Outlier, ...]


def find(frame: pd.DataFrame, same_machine: bool = False) -> list[Fleet]:
    """Return the machines of each hardware that has enough of them, with what is unusual there.

    Machines whose CPU is unknown are not compared with each other, unless `same_machine` says that
    their hardware is equal: their fleet has no hardware, no cells and no outliers. `frame` holds
    result rows of any number of machines, each run of a machine once.
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


def _of_machines(table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the median over the runs of each machine (cells x machines), NaN where none is timed.

    `labels` names the machine of each run.
    """
    return pd.DataFrame(table.T).groupby(labels).median().to_numpy().T


def _deviations(table: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far times (cells x runs) are off: logarithms, and z; NaN of few machines."""
    each = _of_machines(table, labels)
    enough = (~np.isnan(each)).sum(axis=1) >= FEWEST
    off = np.where(enough[:, None], table - np.nanmedian(each, axis=1, keepdims=True), np.nan)
    spread = np.nanmedian(_of_machines(np.abs(off[enough]), labels), axis=1)
    spread = MAD_DEVIATIONS * (np.maximum(spread, np.median(spread) if len(spread) else 0.0))
    scale = np.ones(len(table))
    scale[enough] = np.maximum(spread, 1e-9)
    return off, off / scale[:, None]


def _votes_beyond(far: np.ndarray, vote: np.ndarray) -> Callable[[float], float]:
    """Return a function of z that gives the votes of all that are so `far` off, or more.

    It is for 1 and more: smaller deviations are left out.
    """
    sizes, votes = far[far > 1], vote[far > 1]
    order = np.argsort(sizes)
    sizes, beyond = sizes[order], np.append(np.cumsum(votes[order][::-1])[::-1], 0.0)
    return lambda least: float(beyond[np.searchsorted(sizes, least)])


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
    off, z = _deviations(table, labels)
    timed = ~np.isnan(z)
    runs = np.add.reduceat(timed.astype(np.int32), starts, axis=1)
    vote = 1 / np.repeat(np.maximum(runs, 1), np.diff(starts, append=len(labels)), axis=1)
    groups = _groups(cells)
    each = _of_machines(off, labels)
    middle = np.array([_median(each[group.rows]) for group in groups])
    usual = MAD_DEVIATIONS * np.median(np.abs(middle), axis=1, keepdims=True)
    total = np.array([runs[group.rows].sum(axis=0) for group in groups])
    rest = (runs > 0).sum() - (runs > 0).sum(axis=0)
    ends = [*starts[1:], len(labels)]
    bound = ALPHA / (2 * len(names) * len(groups))
    # Not even a deviation that no other machine shares is evidence in so few cells.
    possible = total * np.log(0.5 / (rest + 1)) < math.log(bound)
    found = []
    for sign in (1, -1):
        far = np.where(timed, sign * z, -np.inf)
        votes_beyond = _votes_beyond(far, vote)
        likely = possible & (sign * middle > np.maximum(LEAST, UNLIKE * usual))
        for machine in np.flatnonzero(likely.any(axis=0)):
            own = slice(starts[machine], ends[machine])
            places = np.flatnonzero(likely[:, machine])
            of_own = far[:, own], timed[:, own], vote[:, own]
            some = [groups[place] for place in places]
            for group, least in _separate(some, *of_own, votes_beyond, int(rest[machine]), bound):
                change = relative(float(np.nanmedian(each[group.rows, machine])))
                alike = (far[group.rows, own] >= least).any(axis=1)
                counts = int(alike.sum()), len(group.rows)
                one = (str(names[machine]), len(names) - 1, group.device, group.what, group.where)
                found.append(Outlier(*one, change, *counts))
    return sorted(found, key=lambda each: (-abs(math.log1p(each.change)), each.machine))


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median of each column without its NaN; 0 of none."""
    if len(values) == 1:
        values = np.repeat(values, 2, axis=0)
    timed = ~np.isnan(values).all(axis=0)
    made = np.zeros(values.shape[1])
    made[timed] = np.nanmedian(values[:, timed], axis=0)
    return made


def _separate(
    groups: Sequence[_Group],
    far: np.ndarray,
    timed: np.ndarray,
    vote: np.ndarray,
    votes_beyond: Callable[[float], float],
    rest: int,
    bound: float,
) -> list[tuple[_Group, float]]:
    """Return the groups that deviate, and from what z on; none shares a cell with a larger one.

    `far` (cells x runs of the machine) holds the z in one direction; `votes_beyond` gives the votes
    of all machines, and the other machines have `rest` votes.
    """
    sure = []
    for group in groups:
        own = timed[group.rows]
        total = int(own.sum())
        found = np.sort(far[group.rows][own])
        for share in LEFT_OUT:
            least = max(1.0, ALIKE * float(np.median(found)), float(found[int(share * total)]))
            alike = int((far[group.rows] >= least).sum())
            others = votes_beyond(least) - vote[far >= least].sum()
            # Half a vote more than seen: none in the sample does not mean a rate of 0.
            rate = (others + 0.5) / (rest + 1)
            # P(at least `alike` of `total` by chance).
            if alike >= MOSTLY * total and bdtrc(alike - 1, total, rate) < bound:
                sure.append((alike, alike / total, group, least))
                break
    sure.sort(key=lambda each: (-each[0], -each[1]))
    kept: list[tuple[_Group, float]] = []
    taken = np.zeros(len(far), bool)
    for _, _, group, least in sure:
        if not taken[group.rows].any():
            taken[group.rows] = True
            kept.append((group, least))
    return kept
