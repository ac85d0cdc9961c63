"""The regression gate: which cells are slower than before, beyond the noise between runs.

Runs are the replicates. A cell has regressed where three things hold: Welch's one-sided test
rejects "at most `margin` slower" after Holm's correction over all judged cells (S. Holm,
Scandinavian Journal of Statistics 6, 1979); the change exceeds the threshold; and it exceeds an
absolute floor.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from bench.compare import files, replicates
from bench.compare.replicates import Key, Pair, Times
from bench.records import schema

VERDICTS = (
    *("regressed", "errored", "missing", "incomparable"),
    *("inconclusive", "improved", "new", "same"),
)
#: Runs a side below which nothing is judged, only told.
FEWEST_RUNS = 3
#: A shift of the whole machine that is corrected; beyond it, nothing can be compared.
MAX_SHIFT = math.log(1.10)
#: Share of a threshold beyond which a screen passes a cell on, and times it wants of it.
SUSPICIOUS, FEWEST_TIMES = 0.6, 2
#: Columns in which two sides must agree, and those whose differences are only told.
HARD = ("cpu", "device_name", "threads", "suite_version")
SOFT = ("machine", "os", "python", "torch", "torchvision", "driver", "cpu_count", "memory_bytes")


@dataclass(frozen=True)
class Limits:
    """What counts as a regression.

    `alpha`: chance of a false alarm in a whole suite; `margin`: change that the test allows;
    `threshold`: change from which a cell fails, `thresholds` the same for some families or
    benchmarks; `floor_s`: change in seconds below which nothing fails.
    """

    threshold: float = 0.05
    margin: float = 0.02
    alpha: float = 0.05
    floor_s: float = 1e-6
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def of(self, key: Key) -> float:
        """Return the threshold of a cell: its benchmark's, its family's, or the general one."""
        family, benchmark = key[0], key[1]
        return self.thresholds.get(benchmark, self.thresholds.get(family, self.threshold))


@dataclass(frozen=True)
class Judged:
    """A cell and its verdict; `change` is relative (0.1 is 10 % slower), with its 95 % interval."""

    key: Key
    verdict: str
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """All cells, shifts by device and dtype, what differs besides, and the exit status."""

    cells: list[Judged]
    shifts: dict[tuple[str, str], float]
    runs: tuple[int, int]
    notes: list[str]
    code: int

    def count(self, verdict: str) -> int:
        """Return how many cells have that verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)


def _said(frame: pd.DataFrame, unstable: bool) -> dict[Key, str]:
    """Return what the last unstable row of each cell says, or the last one that went wrong."""
    bad = frame[(frame.status != "ok") & (frame.status.eq("unstable") == unstable)]
    rows = bad[[*schema.CELL, "status", "reason"]].to_numpy().tolist()
    return {tuple(map(str, row[:5])): ": ".join(filter(None, map(str, row[5:]))) for row in rows}


def relative(difference: float) -> float:
    """Return a difference of logarithms as a share: 0.1 is 10 % more; as much as a float holds."""
    return math.expm1(min(difference, 700.0))


def _judge(pair: Pair, slower: float, faster: float, limits: Limits) -> Judged:
    """Give the verdict of a cell from its corrected p-values in both directions."""
    threshold = limits.of(pair.key)
    difference, half = pair.difference, pair.half()
    change, low, high = (relative(difference + off) for off in (0, -half, half))
    base = math.exp(statistics.fmean(pair.base))
    far = abs(difference) > math.log1p(threshold) and abs(change) * base > limits.floor_s
    reason = ""
    if slower < limits.alpha and difference > 0 and far:
        verdict = "regressed"
    elif faster < limits.alpha and difference < 0 and far:
        verdict = "improved"
    elif high > threshold and high * base > limits.floor_s:
        verdict = "inconclusive"
        reason = (
            f"a change up to {high:.0%} cannot be excluded; about {pair.runs_to_tell(threshold)} "
        )
        reason += "runs a side would tell"
    else:
        verdict = "same"
    p = slower if difference > 0 else faster
    return Judged(pair.key, verdict, change, low, high, p, reason)


def judge(
    base: Times, new: Times, limits: Limits, one_machine: bool = False
) -> tuple[list[Judged], dict[tuple[str, str], float]]:
    """Judge the cells that both sides have; also return the shifts that were taken out.

    None is where the sides alternated on `one_machine`: a change of everything is then theirs.
    """
    pairs = replicates.pairs(base, new)
    shifts: dict[tuple[str, str], float] = {}
    if not one_machine:
        pairs, shifts = replicates.shifted(pairs)
    margin = math.log1p(limits.margin)
    slower = replicates.holm([pair.p_above(margin, 1) for pair in pairs])
    faster = replicates.holm([pair.p_above(margin, -1) for pair in pairs])
    cells = [_judge(*each, limits) for each in zip(pairs, slower, faster, strict=True)]
    return cells, shifts


def _environment(
    baseline: pd.DataFrame, candidate: pd.DataFrame, vary: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return what makes the sides incomparable, and what else differs."""
    hard: list[str] = []
    soft: list[str] = []
    for column in (*HARD, *SOFT):
        sides = [sorted(set(files.texts(frame[column]))) for frame in (baseline, candidate)]
        if sides[0] != sides[1]:
            text = f"{column}: {', '.join(sides[0])} in the baseline, {', '.join(sides[1])} now"
            (hard if column in HARD and column not in vary else soft).append(text)
    return hard, soft


def check(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    limits: Limits | None = None,
    vary: Sequence[str] = (),
    one_machine: bool = False,
    allow_missing: bool = False,
    fail_on_improvement: bool = False,
) -> Outcome:
    """Judge each cell of `candidate` against `baseline`.

    The exit status is 1 where a cell has regressed or errored (or improved, if that is to fail),
    3 where the sides cannot be compared, 4 where a cell is missing, else 0; with fewer than three
    runs a side it is 0 and the verdicts are advice.
    """
    limits = limits or Limits()
    hard, soft = _environment(baseline, candidate, vary)
    runs = (baseline.run_id.nunique(), candidate.run_id.nunique())
    old, new = replicates.times(baseline), replicates.times(candidate)
    faults, known = _said(candidate, unstable=False), _said(baseline, unstable=False)
    broken = {key: faults[key] for key in old if key in faults and key not in known}
    sound = {key: times for key, times in new.items() if key not in broken}
    cells, shifts = judge(old, sound, limits, one_machine)
    for place, shift in shifts.items():
        if abs(shift) > MAX_SHIFT:
            hard.append(f"everything on {' in '.join(place)} moved by {relative(shift):+.0%}")
    if hard:
        cells = [Judged(cell.key, "incomparable", cell.change) for cell in cells]
    cells += [Judged(key, "errored", reason=broken[key]) for key in broken]
    cells += _unjudged(baseline, candidate, {cell.key for cell in cells})
    cells += [Judged(key, "new") for key in new if key not in old]
    if not hard and min(runs) < FEWEST_RUNS:
        soft.append(
            f"{runs[0]} and {runs[1]} runs: advice only; {FEWEST_RUNS} runs a side are judged "
            "(bench run --runs 5)"
        )
    code = 3 if hard else 0
    if not hard and min(runs) >= FEWEST_RUNS:
        code = _code(cells, allow_missing, fail_on_improvement)
    return Outcome(_ordered(cells), shifts, runs, hard + soft, code)


def _unjudged(baseline: pd.DataFrame, candidate: pd.DataFrame, judged: set[Key]) -> list[Judged]:
    """Return the cells that no times could be compared of, and why."""
    cells = []
    there = set(map(tuple, candidate[list(schema.CELL)].astype(str).to_numpy().tolist()))
    unstable = _said(baseline, unstable=True) | _said(candidate, unstable=True)
    for key in replicates.times(baseline):
        if key not in there:
            cells.append(Judged(key, "missing", reason="the baseline has it"))
        elif key not in judged:
            reason = unstable.get(key, "one run with a usable time is too few")
            cells.append(Judged(key, "inconclusive", reason=reason))
    return cells


def _ordered(cells: list[Judged]) -> list[Judged]:
    """Sort by what needs a look first."""
    return sorted(cells, key=lambda c: (VERDICTS.index(c.verdict), -(c.change or 0), c.key))


def _code(cells: list[Judged], allow_missing: bool, fail_on_improvement: bool) -> int:
    """Return the exit status of cells that can be judged."""
    found = {cell.verdict for cell in cells}
    if found & {"regressed", "errored"} or (fail_on_improvement and "improved" in found):
        return 1
    return 4 if "missing" in found and not allow_missing else 0


def suspects(
    baseline: pd.DataFrame, candidate: pd.DataFrame, limits: Limits, one_machine: bool = False
) -> set[Key]:
    """Return the cells that a first look cannot clear: they differ, or hardly could be timed.

    They differ by more than `SUSPICIOUS` of their threshold and could be beyond the floor.
    """
    old, new = replicates.times(baseline), replicates.times(candidate)
    pairs = replicates.pairs(old, new, fewest=1)
    if not one_machine:
        pairs, _ = replicates.shifted(pairs)
    found = set()
    for pair in pairs:
        apart = abs(pair.difference)
        seconds = relative(apart) * math.exp(statistics.fmean(pair.base))
        if apart > math.log1p(SUSPICIOUS * limits.of(pair.key)) and seconds > limits.floor_s:
            found.add(pair.key)
    unsettled = [
        set(frame.loc[frame.status == "unstable", list(schema.CELL)].itertuples(False, None))
        for frame in (baseline, candidate)
    ]
    rare = {
        key
        for key in (*old, *new)
        if min(len(old.get(key, ())), len(new.get(key, ()))) < FEWEST_TIMES
    }
    return found | (set.union(*unsettled) & rare)


def settle(
    screened: Outcome,
    confirmed: Outcome | None,
    suspected: set[Key],
    allow_missing: bool = False,
    fail_on_improvement: bool = False,
) -> Outcome:
    """Put both looks together: what was suspected is judged by the second alone."""
    seen = confirmed.cells if confirmed else []
    again = {cell.key: cell for cell in seen if cell.key in suspected}
    cells = [again.pop(cell.key, cell) for cell in screened.cells]
    cells = [
        dataclasses.replace(cell, verdict="same", reason="cleared by the screen")
        if cell.verdict == "inconclusive" and cell.key not in suspected
        else cell
        for cell in cells
    ]
    cells += again.values()
    notes = [
        f"{len(screened.cells)} cells screened in {screened.runs[0]} and {screened.runs[1]} runs",
        *screened.notes,
    ]
    runs = screened.runs
    if confirmed:
        runs = confirmed.runs
        notes.insert(1, f"{len(suspected)} confirmed in {runs[0]} and {runs[1]} fresh runs")
        notes += [note for note in confirmed.notes if note not in notes]
    code = 0
    if 3 in (screened.code, confirmed and confirmed.code):
        code = 3
    elif min(runs) >= FEWEST_RUNS:
        code = _code(cells, allow_missing, fail_on_improvement)
    return Outcome(_ordered(cells), screened.shifts, runs, notes, code)
