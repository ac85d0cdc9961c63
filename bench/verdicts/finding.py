"""A verdict: a sentence that carries its figures, and the words that sentences share."""

from dataclasses import dataclass

from bench.compare import cells, estimates
from bench.compare.cells import Cell
from bench.report import units
from bench.stats.ratios import Ratio

#: Cells of one fault, or of what is as good as the best, that are named; the rest are counted.
NAMED = 3
#: Characters of a reason that are shown.
LONGEST = 300


@dataclass(frozen=True)
class Verdict:
    """A sentence, what it is about, and what it is worth: the logarithm of the factor at stake.

    `topic` is one of ``fault``, ``unsupported``, ``device``, ``dtype``, ``loading``, ``optimizer``,
    ``in place``, ``copy``, ``unstable``, ``peak``, ``overhead``.
    """

    topic: str
    text: str
    worth: float


def cut(reason: str) -> str:
    """Return a reason as short as a sentence can bear; the CSV has it whole."""
    return reason if len(reason) <= LONGEST else reason[: LONGEST - 3] + "..."


def times(value: Ratio) -> str:
    """Return ``2.4x slower (2.3 to 2.5)`` or ``1.8x faster (...)``."""
    bounds = (value.value, value.low, value.high)
    if value.value < 1:
        bounds = (1 / value.value, 1 / value.high, 1 / value.low)
    middle, low, high = (units.significant(bound, 2) for bound in bounds)
    return f"{middle}x {'slower' if value.value > 1 else 'faster'} ({low} to {high})"


def telling(cell: Cell | None, base: Cell | None) -> Ratio | None:
    """Return the ratio of two cells where it is significant and worth telling."""
    if cell is None or base is None:
        return None
    return cells.telling(estimates.ratio(cell.estimate, base.estimate))


def listed(names: list[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b, c and 4 more``."""
    shown = names[:NAMED] + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def size_of(value: float) -> str:
    """Return a number of elements or samples, with commas."""
    return f"{round(value):,}"


def amount(value: float, unit: str) -> str:
    """Return ``13.2 GB/s`` or the like."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{units.significant(value / factor)} {prefix}{unit}/s"
    return f"{units.significant(value)} {unit}/s"
