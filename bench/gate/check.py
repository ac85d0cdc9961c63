"""The regression gate: which cells are slower than before, beyond the noise between runs.

Runs are the replicates. A cell has regressed if three things hold: a one-sided t test of trimmed
means, with a variance that borrows from the other cells (see `stats.moderated`), rejects "at most
`margin` slower" after Holm's correction over all judged cells (see `stats.multiplicity`); the
change exceeds the threshold; and it exceeds an absolute floor.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bench.compare import observations
from bench.compare.observations import Observations
from bench.gate import comparable, shift
from bench.gate.reason import Reason, reason
from bench.records import schema
from bench.records.schema import CellKey
from bench.stats import moderated, multiplicity, ratios
from bench.stats.moderated import Pair, Times

VERDICTS = (
    *("regressed", "errored", "missing", "incomparable"),
    *("inconclusive", "improved", "new", "same"),
)
#: Fewest runs per side that are judged; with fewer all is advice.
FEWEST_RUNS = 3
#: Largest shift of the whole machine that is corrected; beyond it the sides are incomparable.
MAX_SHIFT = math.log(1.10)


@dataclass(frozen=True)
class Limits:
    """What counts as a regression.

    `alpha`: chance of a false alarm in a whole suite; `margin`: change that the test allows;
    `threshold`: change from which a cell fails; `thresholds`: the same for a family or benchmark;
    `floor_s`: change in seconds below which nothing fails.
    """

    threshold: float = 0.05
    margin: float = 0.02
    alpha: float = 0.05
    floor_s: float = 1e-6
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def of(self, key: CellKey) -> float:
        """Return the threshold of a cell: its benchmark's, its family's, or the general one."""
        of_family = self.thresholds.get(key.family, self.threshold)
        return self.thresholds.get(key.benchmark, of_family)


@dataclass(frozen=True)
class Judged:
    """A cell and its verdict; `change` is relative (0.1 is 10 % slower), with its 95 % interval."""

    key: CellKey
    verdict: str
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: Reason | None = None


@dataclass(frozen=True)
class Outcome:
    """All cells, shifts by device and dtype, other differences, and the verdicts that fail.

    `failing` holds `incomparable` if the sides cannot be compared, and is empty if all verdicts
    are advice.
    """

    cells: list[Judged]
    shifts: dict[tuple[str, str], float]
    runs: tuple[int, int]
    notes: list[Reason]
    failing: frozenset[str]

    @property
    def failed(self) -> list[str]:
        """Return the failing verdicts that a cell has, the worst first."""
        return [verdict for verdict in VERDICTS if verdict in self.failing and self.count(verdict)]

    @property
    def code(self) -> int:
        """Return the exit status: 3 incomparable, 4 if only missing cells fail, 1 if others do."""
        if "incomparable" in self.failing:
            return 3
        if self.failed == ["missing"]:
            return 4
        return 1 if self.failed else 0

    def count(self, verdict: str) -> int:
        """Return how many cells have that verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)


def failing_verdicts(
    comparable: bool, runs: tuple[int, int], allow_missing: bool, fail_on_improvement: bool
) -> frozenset[str]:
    """Return the verdicts that fail."""
    failing = set()
    if min(runs) >= FEWEST_RUNS:
        failing = {"regressed", "errored"}
        failing |= set() if allow_missing else {"missing"}
        failing |= {"improved"} if fail_on_improvement else set()
    return frozenset(failing if comparable else failing | {"incomparable"})


def _judge(pair: Pair, slower: float, faster: float, limits: Limits) -> Judged:
    """Give the verdict of a cell from its corrected p-values in both directions."""
    threshold = limits.of(pair.key)
    difference, half = pair.difference, pair.half()
    change, low, high = (ratios.relative(difference + off) for off in (0, -half, half))
    base = math.exp(pair.level)
    far = abs(difference) > math.log1p(threshold) and abs(change) * base > limits.floor_s
    why = None
    if slower < limits.alpha and difference > 0 and far:
        verdict = "regressed"
    elif faster < limits.alpha and difference < 0 and far:
        verdict = "improved"
    elif high > threshold and high * base > limits.floor_s:
        verdict = "inconclusive"
        why = reason("undecided", change=high, runs=pair.runs_needed(threshold))
    else:
        verdict = "same"
    p = slower if difference > 0 else faster
    return Judged(pair.key, verdict, change, low, high, p, why)


def judge(
    base: Times,
    new: Times,
    limits: Limits,
    one_machine: bool = False,
    controls: Collection[CellKey] | None = None,
    tests: int = 0,
) -> tuple[list[Judged], dict[tuple[str, str], float]]:
    """Judge the cells that both sides have; also return the shifts that were taken out.

    No shift is removed if the sides alternated on `one_machine`: a change of everything is then an
    effect of the sides. `controls` are the cells that estimate a shift, by default all. `tests` is
    the number of cells that these were picked from, if both stages share runs.
    """
    pairs = moderated.pairs(base, new)
    shifts: dict[tuple[str, str], float] = {}
    if not one_machine:
        pairs, shifts = shift.shifted(pairs, controls)
    pairs = moderated.moderated(pairs)
    margin = math.log1p(limits.margin)
    slower = multiplicity.holm([pair.p_above(margin, 1) for pair in pairs], tests).tolist()
    faster = multiplicity.holm([pair.p_above(margin, -1) for pair in pairs], tests).tolist()
    cells = [_judge(*each, limits) for each in zip(pairs, slower, faster, strict=True)]
    return cells, shifts


def _single_calls(*sides: pd.DataFrame) -> int:
    """Return how many cells were timed by a single call, as in the profile smoke."""
    cells = [
        side.loc[(side.rounds * side.iterations).eq(1).fillna(False), list(schema.CELL)]
        for side in sides
    ]
    return len(pd.concat(cells).drop_duplicates())


def check(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    limits: Limits | None = None,
    vary: Sequence[str] = (),
    one_machine: bool = False,
    allow_missing: bool = False,
    fail_on_improvement: bool = False,
    controls: Collection[CellKey] | None = None,
    tests: int = 0,
    same_machine: bool = False,
) -> Outcome:
    """Judge each cell of `candidate` against `baseline`.

    A cell fails if it has regressed or errored, is missing (unless `allow_missing`), or has
    improved (if `fail_on_improvement`); with fewer than three runs per side all is advice. A cell
    of the baseline is `missing` if the candidate has no row of it, unless the baseline's backend
    refused it; a cell is `new` if the baseline has no row of it. `controls` and `tests` are those
    of `judge`. With `same_machine` the user vouches for hardware that the files do not name.
    """
    limits = limits or Limits()
    hard, soft = comparable.environment(baseline, candidate, vary, same_machine)
    runs = (baseline.run_id.nunique(), candidate.run_id.nunique())
    old, new = Observations.of(baseline), Observations.of(candidate)
    broken = observations.broken(old, new)
    sound = {key: times for key, times in new.times.items() if key not in broken}
    cells, shifts = judge(old.times, sound, limits, one_machine, controls, tests)
    for (device, dtype), moved in shifts.items():
        if abs(moved) > MAX_SHIFT:
            change = ratios.relative(moved)
            hard.append(reason("moved", device=device, dtype=dtype, change=change))
    if not one_machine:
        slower = [(c.key, c.change) for c in cells if c.verdict == "regressed" and c.change]
        hard += comparable.moved_together(slower, [cell.key for cell in cells])
    cells += [
        Judged(key, "errored", reason=reason("status", seen=seen)) for key, seen in broken.items()
    ]
    done = {cell.key for cell in cells}
    rest = [
        _unjudged(k, old, new, shifts) for k in {**old.statuses, **new.statuses} if k not in done
    ]
    if hard:
        cells = [
            cell if cell.verdict == "errored" else Judged(cell.key, "incomparable", cell.change)
            for cell in cells
        ]
        rest = [
            replace(cell, verdict="incomparable") if cell.verdict == "inconclusive" else cell
            for cell in rest
        ]
    cells += rest
    if single := _single_calls(baseline, candidate):
        soft.append(reason("single calls", cells=single))
    if not hard and min(runs) < FEWEST_RUNS:
        soft.append(reason("few runs", baseline=runs[0], candidate=runs[1], fewest=FEWEST_RUNS))
    failing = failing_verdicts(not hard, runs, allow_missing, fail_on_improvement)
    return Outcome(ordered(cells), shifts, runs, hard + soft, failing)


def _unjudged(
    key: CellKey, old: Observations, new: Observations, shifts: Mapping[tuple[str, str], float]
) -> Judged:
    """Return the verdict and reason of a cell whose times could not be compared."""
    if key not in old.statuses:
        seen = None if new.count(key) else new.flaw(key)
        return Judged(key, "new", reason=reason("status", seen=seen) if seen else None)
    refused = old.faulty(key) and "unsupported" in old.statuses[key]
    if key not in new.statuses:
        if refused:
            why = reason("gone and refused", seen=old.statuses[key]["unsupported"])
            return Judged(key, "inconclusive", reason=why)
        return Judged(key, "missing", reason=reason("gone"))
    if refused and new.statuses[key].keys() == old.statuses[key].keys():
        why = reason("status of both", seen=new.statuses[key]["unsupported"])
        return Judged(key, "same", reason=why)
    change = None
    if old.count(key) and new.count(key):
        pair = Pair(key, tuple(old.times[key]), tuple(new.times[key]))
        change = ratios.relative(pair.difference - shifts.get((key.device, key.dtype), 0.0))
    return Judged(key, "inconclusive", change, reason=_untimed(key, old, new))


def _untimed(key: CellKey, old: Observations, new: Observations) -> Reason:
    """Return why the times of a cell that both sides have could not be compared."""
    alike = old.statuses[key].keys() == new.statuses[key].keys()
    for side, code in (
        (new, "status of both" if alike else "status"),
        (old, "status of baseline"),
    ):
        if side.count(key) < observations.FEWEST_TIMES and (seen := side.flaw(key)):
            return reason(code, seen=seen)
    return reason("few times")


def ordered(cells: list[Judged]) -> list[Judged]:
    """Return the cells sorted by verdict, the worst first, then by change."""
    return sorted(cells, key=lambda c: (VERDICTS.index(c.verdict), -(c.change or 0), c.key))
