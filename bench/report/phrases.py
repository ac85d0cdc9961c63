"""The parts of sentences: ratios, sizes, names of cells, lists."""

import math
from collections.abc import Sequence

from bench.report import units
from bench.stats.ratios import Ratio
from bench.verdicts.crossover import Crossover
from bench.verdicts.finding import Subject

#: Names that a sentence lists; it counts the rest.
NAMED = 3
#: Of an interval with ends that are further apart than this factor, only the nearer one is shown.
VAGUE = 5.0
#: Characters of a reason that are shown.
LONGEST = 300


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text of at most so many characters; the CSV has all of a reason."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def ends(ratio: Ratio) -> tuple[str, str, str]:
    """Return a ratio and its interval as factors; those of a ratio below 1 are of its inverse."""
    if ratio.value < 1:
        high = 1 / ratio.low if ratio.low else math.inf
        ratio = Ratio(1 / ratio.value, 1 / ratio.high, high)
    return units.factors(ratio)


def times(ratio: Ratio) -> str:
    """Return ``2.4x slower (2.3 to 2.5)`` or ``1.8x faster (...)``, ``at least`` of a wide one."""
    middle, low, high = ends(ratio)
    word = "slower" if ratio.value > 1 else "faster"
    if ratio.significant and not ratio.bounded:
        return f"at least {units.factor(max(ratio.low, 1 / ratio.high))}x {word}"
    if ratio.significant and ratio.high / ratio.low > VAGUE:
        return f"at least {low}x {word}"
    return f"{middle}x {word} ({low} to {high})"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Return ``a``, ``a and b``, or ``a, b, c and 4 more``."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def params(subject: Subject, *without: str) -> str:
    """Return the params of a cell as text, but for some of them."""
    return " ".join(f"{k}={v}" for k, v in subject.params.items() if k not in without)


def name(subject: Subject, *without: str) -> str:
    """Return the benchmark and its params, but for some of them."""
    return " ".join(filter(None, (subject.benchmark, params(subject, *without))))


def size(value: float) -> str:
    """Return a size as a whole number; one between those measured in three digits."""
    between = not float(value).is_integer() and value > 1000
    return f"{round(value, 2 - math.floor(math.log10(value))) if between else value:,.0f}"


def crossing(where: Crossover) -> str:
    """Return the size of a crossover: ``1,024 (between 512 and 2,048)``."""
    return f"{size(where.size)} (between {size(where.low)} and {size(where.high)})"
