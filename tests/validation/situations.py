"""Situations in which a gate, a comparison, a history or an outlier search can go wrong, simulated.

Each situation draws result files whose truth is known and returns, for each of them, whether what
must not happen, or what must happen, did. `tests.validation.gates` prints the shares. The numbers
that were chosen in the code were chosen on the seeds of `TUNING`; the table uses those of `TABLE`.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.compare import estimates, outliers
from bench.gate import check, screen
from bench.gate.outcome import Outcome
from bench.gate.settings import Limits
from bench.records import schema
from bench.stats import changepoints
from bench.stats.moderated import trimmed
from tests.helpers.frames import frame

#: Seeds from which the suites of a situation are numbered.
TUNING, TABLE = 1_000_000, 0
#: The spread between processes of the cells, on a log scale, as the collected runs have it; a share
#: of the values is slower by an exponential excess.
SPREADS = (0.006, 0.008, 0.01, 0.01, 0.012, 0.015, 0.02, 0.03)
COMMON, OUTLIERS, OUTLIER = 0.003, 0.022, 0.03
#: The spread between processes of the reference kernel.
KERNEL = 0.003


@dataclass(frozen=True)
class Situation:
    """A line of the table; `wanted` is the largest share, or the smallest if it is to be `found`."""

    name: str
    trial: Callable[[int], float]
    wanted: float
    found: bool = False
    #: Trials of the full table; those of a quick one are a tenth.
    trials: int = 400


@functools.cache
def _blank(cells: int, runs: int, side: str, apart_h: float) -> pd.DataFrame:
    """The rows of a side, run by run, without times."""
    names = ("add", "cat", "matmul", "softmax", "sum", "chain")
    started = [_time(24 * (side == "new") * (apart_h > 0) + run / 20) for run in range(runs)]
    return frame(
        *(
            {"run_id": f"{side}{run}", "run_started": started[run], "min_s": 1.0, "core_s": 1e-5}
            | {"benchmark": names[cell % len(names)], "params": f"n={cell}"}
            for run in range(runs)
            for cell in range(cells)
        )
    )


def _time(hours: float) -> str:
    return (pd.Timestamp("2026-01-01") + pd.Timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Suite:
    """Times of unchanged cells on two sides: logarithms, runs x cells, and how they become rows."""

    source: np.random.Generator
    base: np.ndarray
    new: np.ndarray
    level_s: float = 2e-4
    kernel: tuple[float, float] | None = (0.0, 0.0)
    apart_h: float = 0.0

    @classmethod
    def draw(
        cls, seed: int, runs: tuple[int, int] = (5, 5), cells: int = 60, **settings: float
    ) -> "Suite":
        """Draw both sides with the noise of the collected runs."""
        source = np.random.default_rng(seed)
        spreads = source.choice(SPREADS, cells)
        sides = []
        for count in runs:
            y = source.normal(0, COMMON, (count, 1)) + source.normal(0, 1, (count, cells)) * spreads
            y += (source.random(y.shape) < OUTLIERS) * source.exponential(OUTLIER, y.shape)
            sides.append(y)
        return cls(source, sides[0], sides[1], **settings)  # type: ignore[arg-type]

    def two_states(self, cells: int, low: float, high: float) -> None:
        """Let each process find one of two states in these cells."""
        gaps = np.log(self.source.uniform(low, high, cells))
        for y in (self.base, self.new):
            y[:, :cells] += (self.source.random((len(y), cells)) < 0.5) * gaps

    def sessions(self, spread: float) -> None:
        """Let the cells of the new side differ as those of another session do: with long tails."""
        count = self.new.shape[1]
        self.new += spread * self.source.standard_t(4, count) / math.sqrt(2)

    def drift(self, a_run: float) -> None:
        """Let each cell drift at its own rate, from the first run of the base to the last one."""
        rates = a_run * self.source.normal(0, 1, self.base.shape[1])
        runs = len(self.base) + len(self.new)
        self.base += np.arange(len(self.base))[:, None] * rates
        self.new += np.arange(len(self.base), runs)[:, None] * rates

    def frames(self) -> list[pd.DataFrame]:
        """Return the rows of both sides."""
        made = []
        levels = math.log(self.level_s) + np.arange(self.base.shape[1]) / 20
        for name, y, moved in zip(
            ("base", "new"), (self.base, self.new), self.kernel or (0.0, 0.0), strict=True
        ):
            rows = _blank(y.shape[1], len(y), name, self.apart_h).copy()
            rows["min_s"] = np.exp(levels + y).ravel()
            rows["median_s"] = 1.02 * rows.min_s
            core = self.source.normal(moved, KERNEL, (len(y), 1)) + 0 * y
            rows["core_s"] = 1e-5 * np.exp(core).ravel() if self.kernel else math.nan
            made.append(rows)
        return made

    def check(self, one_machine: bool = False) -> Outcome:
        """Return what the gate says."""
        return check.check(*self.frames(), one_machine=one_machine)


def _everything_slower(seed: int, share: float) -> float:
    suite = Suite.draw(seed)
    suite.new[:, : round(share * 60)] += math.log(1.08)
    outcome = suite.check()
    named = any(note.code == "everything" for note in outcome.notes)
    return outcome.code == 1 and named and not outcome.count("improved")


def _machine_slower(seed: int, kernel: bool) -> float:
    """The whole machine is 8 % slower, and the reference kernels show it or do not exist."""
    suite = Suite.draw(seed)
    suite.new += math.log(1.08)
    suite.kernel = (0.0, math.log(1.08)) if kernel else None
    return suite.check().code == 1


def _two_states(seed: int, runs: int, high: float = 0.0, one_machine: bool = False) -> float:
    suite = Suite.draw(seed, (runs, runs), 63 if high else 60)
    suite.two_states(20, *((2.0, 3.0) if high else (1.15, 1.15)))
    return suite.check(one_machine).code == 1


def _two_states_ab(seed: int) -> float:
    """As `bench ab`: a screen of three runs a side, its suspects judged by five fresh ones."""
    suite = Suite.draw(seed, (8, 8))
    suite.two_states(20, 1.15, 1.15)
    whole = suite.frames()
    early = [frame[frame.run_id.str[-1].isin(list("012"))] for frame in whole]
    late = [frame[~frame.run_id.str[-1].isin(list("012"))] for frame in whole]
    first = check.check(*early, one_machine=True)
    suspects = screen.suspects(*early, Limits(), one_machine=True)
    fresh = [frame[[key in suspects for key in schema.cell_keys(frame)]] for frame in late]
    second = check.check(*fresh, one_machine=True) if suspects else None
    return screen.settle(first, second, suspects).code == 1


def _unequal(seed: int) -> float:
    suite = Suite.draw(seed, (20, 3))
    suite.new *= 3
    return suite.check().code == 1


def _session(seed: int, base: int, runs: int) -> float:
    suite = Suite.draw(seed, (base, runs), apart_h=24)
    suite.sessions(0.015)
    return suite.check().code == 1


def _past(seed: int, sessions: int, factor: float = 1.0) -> float:
    """A baseline of several sessions of five runs, and a candidate of another one.

    Returns whether the gate fails, or finds the cell that is slower.
    """
    suite = Suite.draw(seed, (5 * sessions, 5), apart_h=24)
    effects = 0.015 / 2 * suite.source.standard_t(4, (sessions + 1, 60))
    session = np.repeat(np.arange(sessions), 5)
    suite.base += effects[session]
    suite.new += effects[-1]
    victim = int(suite.source.integers(60))
    suite.new[:, victim] += math.log(factor)
    base, new = suite.frames()
    base["run_started"] = [_time(-24.0 * n) for n in np.repeat(session, 60)]
    outcome = check.check(base, new)
    if factor == 1:
        return outcome.code == 1
    cells = {cell.key.params: cell.verdict for cell in outcome.cells}
    return cells[f"n={victim}"] == "regressed"


def _drift(seed: int) -> float:
    suite = Suite.draw(seed, (10, 10))
    suite.drift(0.005)
    return suite.check().code == 1


def _unchanged(seed: int, cells: int, runs: int = 5, base: int = 0) -> float:
    return Suite.draw(seed, (base or runs, runs), cells).check().code == 1


def _two_states_known(seed: int) -> float:
    """Twenty runs of the baseline, and two states whose gap is the default threshold."""
    suite = Suite.draw(seed, (20, 5))
    suite.two_states(20, 1.04, 1.06)
    return suite.check().code == 1


def _slower(seed: int, factor: float, base: int = 5) -> float:
    """One cell is slower; is it named?"""
    suite = Suite.draw(seed, (base, 5))
    victim = int(suite.source.integers(60))
    suite.new[:, victim] += math.log(factor)
    cells = {cell.key.params: cell.verdict for cell in suite.check().cells}
    return cells[f"n={victim}"] == "regressed"


def _tiny(seed: int) -> float:
    """A cell of two microseconds is 10 % slower, less than the floor; is it called the same?"""
    suite = Suite.draw(seed, level_s=2e-6)
    suite.new[:, 0] += math.log(1.10)
    cells = {cell.key.params: cell.verdict for cell in suite.check().cells}
    return cells["n=0"] == "same"


def _history(seed: int, runs: int, step: float = 1.0, states: bool = False) -> float:
    """Of 100 cells in sessions of five runs, what share has a change of 5 % or more?

    The sessions differ by 3 %, or each process finds one of two states. A step of every cell lies
    somewhere in the middle third.
    """
    source = np.random.default_rng(seed)
    shape = (100, runs // 5, 5)
    y = source.normal(0, 0.012, shape)
    y += (source.random(shape) < OUTLIERS) * source.exponential(OUTLIER, shape)
    if states:
        y += math.log(1.15) * (source.random(shape) < 0.5)
    else:
        y += source.normal(0, 0.03, (*shape[:2], 1))
    for cell in y:
        first = source.integers(shape[1] // 3, shape[1] - shape[1] // 3 + 1)
        cell[first:] += math.log(step)
    means = [[trimmed(session).mean for session in cell] for cell in y.tolist()]
    found = changepoints.find(means, [[5] * shape[1]] * 100)
    return float(np.mean([any(abs(by) > math.log(1.05) for _, by in each) for each in found]))


@functools.cache
def _fleet_cells(cells: int) -> pd.DataFrame:
    return frame(
        *({"benchmark": f"op{n // 8}", "params": f"n={2 ** (n % 8)}"} for n in range(cells))
    )


def _fleet(seed: int, slow: float = 1.0, machines: int = 10, cells: int = 120) -> float:
    """Machines with the noise of the collected runs, and outliers of a third; is any named?

    If the first machine is slow, it alone must be named.
    """
    source = np.random.default_rng(seed)
    shape = (cells, machines)
    y = source.normal(0, 0.005, (1, machines)) + source.normal(0, 1, shape) * source.choice(
        SPREADS, (cells, 1)
    )
    y += (source.random(shape) < OUTLIERS) * source.exponential(0.3, shape)
    y[:, 0] += math.log(slow)
    rows = _fleet_cells(cells)
    rows = rows.loc[rows.index.repeat(machines)].reset_index(drop=True)
    names = [f"node-{n}" for n in range(machines)] * cells
    seconds = 1e-4 * np.exp(y).ravel()
    made = rows.assign(machine=names, run_id=names, min_s=seconds, median_s=seconds)
    named = {one.machine for fleet in outliers.find(made) for one in fleet.outliers}
    return named == {"node-0"} if slow > 1 else bool(named)


def _one_run(seed: int) -> float:
    """Of 60 equal cells with one run of schema 2 on each side, what share is claimed to differ?

    The intervals within the runs are as `stats.undisturbed` makes them.
    """
    suite = Suite.draw(seed, (1, 1))
    sides = []
    for rows in suite.frames():
        rows["ci_low_s"], rows["ci_high_s"] = 0.97 * rows.median_s, 1.025 * rows.median_s
        sides.append(estimates.by_group(rows, ["params"], []))
    ratios = [estimates.ratio(sides[1][key], one) for key, one in sides[0].items()]
    return float(np.mean([made is not None and made.significant for made in ratios]))


def _missed(seed: int, runs: int, base: int = 1, covers: bool = False) -> float:
    """Of 60 equal cells with so many runs in `base` sessions and in another one, what share misses?

    That is, the interval of the ratio does not hold 1. Sessions differ as in `Suite.sessions`.
    With `covers`, each run has the interval of `stats.undisturbed`.
    """
    suite = Suite.draw(seed, (runs, runs), apart_h=24)
    effects = 0.015 / 2 * suite.source.standard_t(4, (base + 1, 60))
    session = np.arange(runs) * base // runs
    suite.base += effects[session]
    suite.new += effects[-1]
    sides = []
    for place, rows in enumerate(suite.frames()):
        if not place:
            rows["run_started"] = [_time(-24.0 * n) for n in np.repeat(session, 60)]
        if covers:
            rows["ci_low_s"], rows["ci_high_s"] = 0.97 * rows.median_s, 1.025 * rows.median_s
        rows["machine"] = "here"
        sides.append(rows)
    both = estimates.by_group(
        pd.concat(sides).assign(side=np.repeat(["a", "b"], 60 * runs)), ["params"], ["side"]
    )
    ratios = [
        estimates.ratio(both[key, ("b",)], one)
        for (key, side), one in both.items()
        if side == ("a",)
    ]
    return float(np.mean([made is None or made.significant for made in ratios]))


SITUATIONS = (
    Situation(
        "75 % of the cells 8 % slower: found, named, nothing improved",
        functools.partial(_everything_slower, share=0.75),
        *(0.95, True),
    ),
    Situation(
        "all cells 8 % slower: found, named, nothing improved",
        functools.partial(_everything_slower, share=1.0),
        *(0.95, True),
    ),
    Situation(
        "the machine 8 % slower, its kernels too: alarm",
        functools.partial(_machine_slower, kernel=True),
        0.05,
    ),
    Situation(
        "the machine 8 % slower, no kernels: alarm",
        functools.partial(_machine_slower, kernel=False),
        0.05,
    ),
    *(
        Situation(
            f"20 of 60 cells in two states (x1.15), {runs} runs: alarm",
            functools.partial(_two_states, runs=runs),
            0.05,
        )
        for runs in (3, 5, 10)
    ),
    Situation("the same in bench ab: alarm", _two_states_ab, 0.05),
    *(
        Situation(
            f"20 of 63 cells in two states (x2 to 3), {runs} runs: alarm",
            functools.partial(_two_states, runs=runs, high=3.0),
            0.05,
        )
        for runs in (3, 5, 10)
    ),
    Situation("candidate 3 times as noisy, 20 runs against 3: alarm", _unequal, 0.05),
    *(
        Situation(
            f"baseline of another session, {base} and {runs} runs: alarm",
            functools.partial(_session, base=base, runs=runs),
            0.05,
        )
        for base, runs in ((3, 3), (10, 10), (20, 5))
    ),
    *(
        Situation(
            f"baseline of {sessions} sessions of 5 runs, {what}",
            functools.partial(_past, sessions=sessions, factor=factor),
            *((0.05, False) if factor == 1 else (0.6, True)),
            trials=200,
        )
        for sessions in (3, 5, 10)
        for what, factor in (
            ("unchanged: alarm", 1.0),
            ("one cell 5 % slower: found", 1.05),
            ("one cell 10 % slower: found", 1.10),
        )
    ),
    Situation("drift of each cell by 0.5 % a run, 10 runs: alarm", _drift, 0.05),
    Situation("60 cells, 3 runs: alarm", functools.partial(_unchanged, cells=60, runs=3), 0.05),
    Situation(
        "60 cells, 20 runs of the baseline, 5 runs: alarm",
        functools.partial(_unchanged, cells=60, base=20),
        0.05,
    ),
    Situation(
        "20 of 60 cells in two states (x1.04 to 1.06), 20 and 5 runs: alarm",
        _two_states_known,
        0.05,
    ),
    Situation("10 cells, 5 runs: alarm", functools.partial(_unchanged, cells=10), 0.05),
    Situation(
        "1,000 cells, 5 runs: alarm", functools.partial(_unchanged, cells=1000), 0.05, trials=100
    ),
    *(
        Situation(
            f"one cell {factor - 1:.0%} slower, 5 runs: found",
            functools.partial(_slower, factor=factor),
            *(wanted, True),
        )
        for factor, wanted in ((1.05, 0.6), (1.10, 0.7), (1.20, 0.86))
    ),
    Situation(
        "one cell 5 % slower, 20 runs of the baseline, 5 runs: found",
        functools.partial(_slower, factor=1.05, base=20),
        *(0.6, True),
    ),
    Situation("a cell of 2 us 10 % slower: called the same", _tiny, 0.05),
    Situation("compare, one run on each side: equal cells claimed to differ", _one_run, 0.01),
    *(
        Situation(
            f"compare, {runs} runs in {base} and in another session{kind}: ratio of 1 missed",
            functools.partial(_missed, runs=runs, base=base, covers=bool(kind)),
            0.07,
            trials=100,
        )
        for runs, base, kind in (
            *((3, 1, ""), (10, 1, ""), (10, 2, "")),
            (10, 1, ", schema 2"),
        )
    ),
    *(
        Situation(
            f"history of {runs} runs, sessions differ by 3 %: cells with a change",
            functools.partial(_history, runs=runs),
            *(0.02, False, 40),
        )
        for runs in (20, 50, 200)
    ),
    Situation(
        "history of 50 runs, two states (x1.15): cells with a change",
        functools.partial(_history, runs=50, states=True),
        *(0.02, False, 40),
    ),
    *(
        Situation(
            f"history of {runs} runs, a step of 10 %: found",
            functools.partial(_history, runs=runs, step=1.10),
            *(0.8, True, 40),
        )
        for runs in (50, 200)
    ),
    *(
        Situation(
            f"one of {machines} machines 10 % slow, {cells} cells: found, and it alone",
            functools.partial(_fleet, slow=1.10, machines=machines, cells=cells),
            *(0.8, True, 200),
        )
        for machines, cells in ((10, 120), (10, 400), (6, 120))
    ),
    *(
        Situation(
            f"{machines} equal machines, {cells} cells: one named",
            functools.partial(_fleet, machines=machines, cells=cells),
            *(0.01, False, 400),
        )
        for machines, cells in ((10, 120), (10, 400), (6, 120))
    ),
)


def measure(situation: Situation, quick: bool = False, first: int = TABLE) -> tuple[float, int]:
    """Return the share of the trials in which it happened, and their number."""
    trials = max(10, situation.trials // 10) if quick else situation.trials
    return sum(situation.trial(first + n) for n in range(trials)) / trials, trials


def table(quick: bool = False, first: int = TABLE) -> Iterator[tuple[str, str, str, str]]:
    """Give a line for each situation: what it is, its share, what is wanted, and whether it holds."""
    for one in SITUATIONS:
        share, trials = measure(one, quick, first)
        holds = share >= one.wanted if one.found else share <= one.wanted
        bound = f"{'at least' if one.found else 'at most'} {one.wanted:.0%}"
        yield f"{one.name} ({trials})", f"{share:.1%}", bound, "yes" if holds else "no"
