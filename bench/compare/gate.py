"""The regression gate: which cells are slower than before, beyond the noise between runs.

Runs are the replicates. A cell has regressed where three things hold: Welch's one-sided test
rejects "at most `margin` slower" after Holm's correction over all judged cells (S. Holm,
Scandinavian Journal of Statistics 6, 1979); the change exceeds the threshold; and it exceeds an
absolute floor.
"""

import bisect
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from scipy.special import stdtr, stdtrit

from bench.compare import files
from bench.records import schema

VERDICTS = (
    *("regressed", "errored", "missing", "incomparable"),
    *("inconclusive", "improved", "new", "same"),
)
#: Runs a side below which nothing is judged, only told.
FEWEST_RUNS = 3
#: A shift of the whole machine that is corrected; beyond it, nothing can be compared.
MAX_SHIFT = math.log(1.10)
#: Cells of a device and dtype from which on their median tells a shift of the machine.
SHIFT_CELLS = 5
#: Columns in which two sides must agree, and those whose differences are only told.
HARD = ("cpu", "device_name", "threads", "suite_version")
SOFT = ("machine", "os", "python", "torch", "torchvision", "driver", "cpu_count", "memory_bytes")

Key = tuple[str, ...]


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


@dataclass(frozen=True)
class _Pair:
    """Logarithms of the runs' times of one cell on both sides."""

    key: Key
    base: tuple[float, ...]
    new: tuple[float, ...]

    @functools.cached_property
    def difference(self) -> float:
        return statistics.fmean(self.new) - statistics.fmean(self.base)

    @functools.cached_property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(sum(statistics.variance(x) / len(x) for x in (self.new, self.base)))

    @functools.cached_property
    def degrees(self) -> float:
        """Degrees of freedom after Welch and Satterthwaite."""
        parts = [statistics.variance(x) / len(x) for x in (self.new, self.base)]
        spread = sum(v**2 / (len(x) - 1) for v, x in zip(parts, (self.new, self.base), strict=True))
        return sum(parts) ** 2 / spread if spread > 0 else math.inf

    def p_above(self, bound: float, sign: int) -> float:
        """Return the chance of such a difference where the true one is no more than `bound`."""
        excess = sign * self.difference - bound
        if self.error == 0:
            return 0.0 if excess > 0 else 1.0
        return float(stdtr(self.degrees, -excess / self.error))

    def half(self) -> float:
        """Return half the 95 % interval of the difference."""
        return float(stdtrit(self.degrees, 0.975)) * self.error if self.error else 0.0


def _times(frame: pd.DataFrame) -> dict[Key, list[float]]:
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


def _statuses(frame: pd.DataFrame) -> dict[Key, tuple[str, str]]:
    """Return the last status and reason of each cell."""
    last = frame.drop_duplicates(list(schema.CELL), keep="last")
    rows = last[[*schema.CELL, "status", "reason"]].to_numpy().tolist()
    return {tuple(map(str, row[:5])): (str(row[5]), str(row[6])) for row in rows}


def relative(difference: float) -> float:
    """Return a difference of logarithms as a share: 0.1 is 10 % more; as much as a float holds."""
    return math.expm1(min(difference, 700.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted numbers less one of them."""
    place, rest = bisect.bisect_left(ordered, value), len(ordered) - 1
    middle = (rest // 2,) if rest % 2 else (rest // 2 - 1, rest // 2)
    return statistics.fmean(ordered[i if i < place else i + 1] for i in middle)


def _shifted(pairs: list[_Pair]) -> tuple[list[_Pair], dict[tuple[str, str], float]]:
    """Take the shift of the machine out of each cell: the median change of the others."""
    groups: dict[tuple[str, str], list[_Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.key[2], pair.key[3]), []).append(pair)
    made, shifts = [], {}
    for place, group in groups.items():
        if len(group) < SHIFT_CELLS:
            made += group
            continue
        ordered = sorted(pair.difference for pair in group)
        shifts[place] = statistics.median(ordered)
        for pair in group:
            shift = _median_without(ordered, pair.difference)
            made.append(_Pair(pair.key, pair.base, tuple(y - shift for y in pair.new)))
    return made, shifts


def _needed(pair: _Pair, threshold: float) -> int:
    """Return runs a side with which the interval of this noise would exclude the threshold."""
    spread = statistics.fmean([statistics.variance(pair.new), statistics.variance(pair.base)])
    for runs in range(len(pair.new) + 1, 1000):
        half = float(stdtrit(2 * runs - 2, 0.975)) * math.sqrt(2 * spread / runs)
        if half < math.log1p(threshold) / 2:
            return runs
    return 1000


def _judge(pair: _Pair, slower: float, faster: float, limits: Limits) -> Judged:
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
        reason = f"a change up to {high:.0%} cannot be excluded; about {_needed(pair, threshold)} "
        reason += "runs a side would tell"
    else:
        verdict = "same"
    p = slower if difference > 0 else faster
    return Judged(pair.key, verdict, change, low, high, p, reason)


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
    old, new = _times(baseline), _times(candidate)
    statuses = _statuses(candidate)
    both = [key for key in old if key in new]
    pairs = [
        _Pair(key, tuple(old[key]), tuple(new[key]))
        for key in both
        if min(len(old[key]), len(new[key])) > 1
    ]
    pairs, shifts = _shifted(pairs)
    moved = [place for place, shift in shifts.items() if abs(shift) > MAX_SHIFT]
    for place in moved:
        hard.append(f"everything on {' in '.join(place)} moved by {relative(shifts[place]):+.0%}")
    margin = math.log1p(limits.margin)
    slower = holm([pair.p_above(margin, 1) for pair in pairs])
    faster = holm([pair.p_above(margin, -1) for pair in pairs])
    cells = [_judge(*each, limits) for each in zip(pairs, slower, faster, strict=True)]
    if hard:
        cells = [Judged(cell.key, "incomparable", cell.change) for cell in cells]
    judged = {cell.key for cell in cells}
    for key in old:
        if key in judged:
            continue
        if key in new:
            cells.append(
                Judged(key, "inconclusive", reason="one run with a usable time is too few")
            )
        elif key not in statuses:
            cells.append(Judged(key, "missing", reason="the baseline has it"))
        elif statuses[key][0] == "unstable":
            cells.append(Judged(key, "inconclusive", reason=statuses[key][1]))
        else:
            cells.append(Judged(key, "errored", reason=": ".join(statuses[key])))
    cells += [Judged(key, "new") for key in new if key not in old]
    cells.sort(key=lambda cell: (VERDICTS.index(cell.verdict), -(cell.change or 0), cell.key))
    found = {cell.verdict for cell in cells}
    failing = {"regressed", "errored"} | ({"improved"} if fail_on_improvement else set())
    code = 0
    if hard:
        code = 3
    elif min(runs) < FEWEST_RUNS:
        soft.append(
            f"{runs[0]} and {runs[1]} runs: advice only; {FEWEST_RUNS} runs a side are judged "
            "(bench run --runs 5)"
        )
    elif found & failing:
        code = 1
    elif "missing" in found and not allow_missing:
        code = 4
    return Outcome(cells, shifts, runs, hard + soft, code)
