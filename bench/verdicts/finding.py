"""A finding: what a rule found, as data; report/sentences.py puts it into words."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.compare import estimates
from bench.compare.cells import Cell
from bench.stats.ratios import Ratio
from bench.verdicts.crossover import Crossover

#: A difference smaller than this factor is not worth a change of anyone's code.
NOTABLE = 1.15


@dataclass(frozen=True)
class Subject:
    """The cell or the group of cells that a finding is about; a blank field covers all values."""

    device: str = ""
    dtype: str = ""
    benchmark: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell) -> "Subject":
        """Return the subject that is one cell."""
        return cls(cell.device, cell.dtype, cell.name, cell.params)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule found of `subject`, often compared with `rival`.

    `topic` names the rule and `advice` its answer, both as code words. `ratio` is the time of the
    subject over that of the rival. `amount` and `rival_amount` have the unit `unit`. The finding
    rests on `n` cells, of `total` if that is known. `alike` cannot be distinguished from the
    subject.
    """

    topic: str
    subject: Subject
    advice: str = ""
    ratio: Ratio | None = None
    amount: float | None = None
    unit: str = ""
    rival: Subject | None = None
    rival_amount: float | None = None
    alike: tuple[Subject, ...] = ()
    n: int = 1
    total: int | None = None

    @property
    def effect(self) -> float:
        """The factor at stake, by which findings are sorted; 1 if there is none."""
        return self.ratio.factor if self.ratio and self.advice != "keeps up" else 1.0


@dataclass(frozen=True, kw_only=True)
class Fault(Finding):
    """A cell that failed in all of its runs, or in some of them; `advice` is its status.

    Its device has `total` cells.
    """

    reason: str = ""

    @property
    def effect(self) -> float:
        """More than any ratio."""
        return math.inf


@dataclass(frozen=True, kw_only=True)
class Refusal(Finding):
    """What a device refuses for one reason.

    `refused` maps each benchmark to the values of the params that are refused (empty if all are),
    or to the params of each cell if these do not separate them from the others. They are refused in
    `dtypes`, all for the same `reason`.
    """

    dtypes: tuple[str, ...]
    reason: str
    refused: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Unsettled(Finding):
    """The cells that are not settled, and how many of them show a sign of disturbance.

    `stolen`: other programs took CPU time; `slowed`: the machine was slower than at its best.
    """

    stolen: int
    slowed: int


@dataclass(frozen=True, kw_only=True)
class Alternatives(Finding):
    """The best of several alternatives, and the memory of its workers if it has any.

    `unmeasured` maps those without a time to their status.
    """

    unmeasured: Mapping[str, str]
    memory_bytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep(Finding):
    """How a device compares with the CPU along `param`, measured from `smallest` to `largest`.

    `ratio` was measured at the size `at`, the largest with a notable difference; at the sizes
    `ties` there is none. The advice is `above` or `below` a crossover, `always` or `never` faster
    at every size, or `faster` or `slower` at all sizes without a tie.
    """

    param: str
    smallest: float
    largest: float
    at: float
    ties: tuple[float, ...] = ()
    crossover: Crossover | None = None


@dataclass(frozen=True, kw_only=True)
class Overhead(Finding):
    """What a small call costs, and the number of elements from which that is negligible."""

    negligible_from: float | None


def notable(ratio: Ratio | None) -> Ratio | None:
    """Return a ratio that is significant and large enough to act on, None for any other."""
    if ratio is None or not ratio.significant or 1 / NOTABLE < ratio.value < NOTABLE:
        return None
    return ratio


def per_unit(cell: Cell, base: Cell, work: str, among: int = 1) -> Ratio | None:
    """Return the ratio of the times that a unit of `work` takes in two cells, None if unknown.

    `work` is ``items``, ``bytes`` or ``flop``, or blank for the times of the cells themselves.
    """
    found = estimates.ratio(cell.estimate, base.estimate, among)
    if found is None or not work:
        return found
    here, there = getattr(cell, work), getattr(base, work)
    if not here or not there:
        return None
    scale = there / here
    return Ratio(found.value * scale, found.low * scale, found.high * scale)


def compared(cell: Cell, base: Cell, among: int, work: str = "") -> Ratio | None:
    """Return the ratio of `per_unit`, None if it is missing or not notable.

    That it is notable holds for `among` such comparisons at once; its interval is its own.
    """
    return per_unit(cell, base, work) if notable(per_unit(cell, base, work, among)) else None


def unsettled_rivals(found: Iterable[Cell], best: Cell, work: str) -> list[Cell]:
    """Return the cells without a settled time that may do more `work` in a second than `best`."""
    rate = best.rate(work)
    made = []
    for cell in found:
        uncertain = cell.estimate.status in ("unstable", "unmeasurable", "not timed")
        amount, least_s = getattr(cell, work), cell.estimate.low
        if uncertain and not cell.settled and amount and not (least_s and amount / least_s <= rate):
            made.append(cell)
    return made
