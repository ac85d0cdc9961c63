"""The power of a rule: its false alarms on runs of unchanged code, and the slowdowns it finds.

Suites are drawn from such runs without replacement: half are the baseline, half the candidate. They
are drawn at random, like sides that alternate, or in the order in which they were made, one side
after the other, drift included. One cell of the candidate is then slowed by a known factor.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from bench.compare import files, observations
from bench.gate import check
from bench.gate.settings import Limits
from bench.records import schema
from bench.records.schema import CellKey

#: The observation of a cell in one run, in the form that a rule needs; None if there is none.
S = TypeVar("S")
Side = Mapping[CellKey, Sequence[S]]
#: Returns the cells that are slower in the second side than in the first.
Rule = Callable[[Side[S], Side[S]], set[CellKey]]
SLOWDOWNS = (1.05, 1.10, 1.20)
#: Runs per side of `bench doctor --gate`, and the share of slowdowns by 10 % that a useful gate
#: finds.
FEWEST, WANTED = 5, 0.85
#: Suites that are drawn from stored runs, and what these must have in common to be replicates.
STORED_SUITES = 100
ALIKE = ("machine", "torch", "threads", "suite_version", "python", "driver")


@dataclass(frozen=True)
class Power:
    """Of `suites` unchanged suites, `alarms` raised a false alarm.

    `found` counts, by slowdown, the suites in which the slowed cell was named; `exact` those in
    which it alone was named.
    """

    per_side: int
    suites: int
    alarms: int
    found: dict[float, int]
    exact: dict[float, int]

    @property
    def honest(self) -> bool:
        """Whether the rate of false alarms is at most the gate's alpha."""
        return self.alarms <= Limits().alpha * self.suites

    @property
    def sharp(self) -> bool:
        """Whether it finds a slowdown by 10 % often enough."""
        return self.found[1.10] >= WANTED * self.suites


def examine(
    runs: Side[S | None],
    rule: Rule[S],
    slower: Callable[[S, float], S],
    per_side: int,
    suites: int,
    slowed: Sequence[CellKey] = (),
    alternating: bool = True,
    seed: int = 1,
) -> Power:
    """Judge `suites` suites of `per_side` runs a side, each unchanged and with each slowdown.

    `slowed` are the cells that may be slowed, all by default; `alternating` draws the runs of a
    suite at random, otherwise they follow each other. Raises ValueError for too few runs.
    """
    source = random.Random(seed)
    count = max(map(len, runs.values()), default=0)
    if count < 2 * per_side:
        raise ValueError(f"{count} runs are too few for {per_side} a side")
    names = list(slowed) or list(runs)
    alarms, found, exact = 0, dict.fromkeys(SLOWDOWNS, 0), dict.fromkeys(SLOWDOWNS, 0)
    for _ in range(suites):
        if alternating:
            drawn = source.sample(range(count), 2 * per_side)
        else:
            start = source.randrange(count - 2 * per_side + 1)
            drawn = list(range(start, start + 2 * per_side))
        base, new = (_side(runs, half) for half in (drawn[:per_side], drawn[per_side:]))
        victim = source.choice(names)
        alarms += bool(rule(base, new))
        for factor in SLOWDOWNS:
            changed = {victim: [slower(s, factor) for s in new[victim]]} if victim in new else {}
            named = rule(base, {**new, **changed})
            found[factor] += victim in named
            exact[factor] += named == {victim}
    return Power(per_side, suites, alarms, found, exact)


def _side(runs: Side[S | None], drawn: Sequence[int]) -> dict[CellKey, list[S]]:
    """Return the samples of the drawn runs, by cell; a cell without any is left out."""
    chosen = {
        key: [sample for place in drawn if (sample := samples[place]) is not None]
        for key, samples in runs.items()
    }
    return {key: samples for key, samples in chosen.items() if samples}


def regressed(base: Side[float], new: Side[float]) -> set[CellKey]:
    """Return the cells that the gate calls regressed by default, from logarithms of times."""
    cells, shifts, _ = check.judge(base, new, Limits())
    if any(abs(shift.value) > check.MAX_SHIFT for shift in shifts.values()):
        return set()
    return {cell.key for cell in cells if cell.verdict == "regressed"}


def of_gate(
    runs: Side[float | None], per_side: int, suites: int = 200, slowed: Sequence[CellKey] = ()
) -> Power:
    """Examine the gate on logarithms of times; raises ValueError as `examine` does."""

    def slower(time: float, factor: float) -> float:
        return time + math.log(factor)

    return examine(runs, regressed, slower, per_side, suites, slowed)


@dataclass(frozen=True)
class Stored:
    """How many stored runs are alike, and the logarithm of the time of each cell in each of them.

    None stands for a run in which a cell was not measured.
    """

    runs: int = 0
    times: Mapping[CellKey, Sequence[float | None]] = field(default_factory=dict)

    def power(self) -> Power | None:
        """Examine the gate on these runs; None if they are too few."""
        enough = self.runs >= 2 * FEWEST and self.times
        return of_gate(self.times, FEWEST, STORED_SUITES) if enough else None


def stored(frame: pd.DataFrame, device: str) -> Stored:
    """Return the newest runs of a device that are `ALIKE`, without cells that most of them lack."""
    rows = frame[frame.device == device]
    if rows.empty:
        return Stored()
    rows = rows.assign(log=np.log(observations.seconds(rows)), threads=files.texts(rows.threads))
    sets = [each for _, each in rows.groupby(list(ALIKE), dropna=False)]
    newest = max(sets, key=lambda each: str(each.run_started.max())).sort_values("run_started")
    runs = newest.run_id.unique()
    cells = newest.pivot_table("log", list(schema.CELL), "run_id", "first", observed=True)
    table = cells.reindex(columns=runs)[2 * cells.notna().sum(axis=1) > len(runs)]
    times = {
        CellKey(*map(str, key)): [None if math.isnan(y) else y for y in logs]
        for key, logs in zip(table.index, table.to_numpy().tolist(), strict=True)
    }
    return Stored(len(runs), times)


def of_processes(device: str, runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> Power:
    """Examine the gate on the times of reference kernels in fresh processes.

    Each process gives ``min_s``, ``median_s`` and ``faults`` of each kernel, as
    `bench.measure.operations` prints them. Raises ValueError for too few processes.
    """
    column = observations.time_column(device)
    times: dict[CellKey, list[float | None]] = {}
    for place, run in enumerate(runs):
        for name, kernel in run.items():
            key = CellKey("", "", device, "float32", name)
            samples = times.setdefault(key, [None] * len(runs))
            samples[place] = None if kernel["faults"] else math.log(kernel[column])
    return of_gate(times, FEWEST)
