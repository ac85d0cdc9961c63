"""Runs as replicates: the times of a cell on two sides, and what chance makes of them."""

import bisect
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtr, stdtrit

from bench.records import schema

#: Cells of a device and dtype from which on their median tells a shift of the machine.
SHIFT_CELLS = 5

Key = tuple[str, ...]
#: Logarithms of one time in seconds for each run in which the cell was `ok`.
Times = Mapping[Key, Sequence[float]]


@dataclass(frozen=True)
class Pair:
    """Logarithms of the runs' times of one cell on both sides."""

    key: Key
    base: tuple[float, ...]
    new: tuple[float, ...]

    @functools.cached_property
    def difference(self) -> float:
        """Return how much longer the new side takes, as a logarithm."""
        return statistics.fmean(self.new) - statistics.fmean(self.base)

    @functools.cached_property
    def error(self) -> float:
        """Return the standard error of the difference."""
        return math.sqrt(sum(statistics.variance(x) / len(x) for x in (self.new, self.base)))

    @functools.cached_property
    def degrees(self) -> float:
        """Return the degrees of freedom (B. L. Welch, Biometrika 34, 1947)."""
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

    def runs_to_tell(self, threshold: float) -> int:
        """Return runs a side with which the interval of this noise would exclude `threshold`."""
        spread = statistics.fmean([statistics.variance(self.new), statistics.variance(self.base)])
        for runs in range(len(self.new) + 1, 1000):
            half = float(stdtrit(2 * runs - 2, 0.975)) * math.sqrt(2 * spread / runs)
            if half < math.log1p(threshold) / 2:
                return runs
        return 1000


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


def pairs(base: Times, new: Times, fewest: int = 2) -> list[Pair]:
    """Return the cells that both sides have; variances need two runs a side."""
    both = [key for key in base if key in new and min(len(base[key]), len(new[key])) >= fewest]
    return [Pair(key, tuple(base[key]), tuple(new[key])) for key in both]


def shifted(found: list[Pair]) -> tuple[list[Pair], dict[tuple[str, str], float]]:
    """Take the shift of the machine out of each cell: the median change of the others.

    Returns the cells and the shift of each device and dtype that has enough of them.
    """
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
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
            made.append(Pair(pair.key, pair.base, tuple(y - shift for y in pair.new)))
    return made, shifts


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted numbers less one of them."""
    place, rest = bisect.bisect_left(ordered, value), len(ordered) - 1
    middle = (rest // 2,) if rest % 2 else (rest // 2 - 1, rest // 2)
    return statistics.fmean(ordered[i if i < place else i + 1] for i in middle)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
