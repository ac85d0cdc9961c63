"""What makes a row valid: one table of rules, for the writer, the reader and the importer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from bench.records import schema

#: Columns as arrays: texts as objects, numbers as floats with NaN if blank.
Columns = Mapping[str, np.ndarray]
RESTORE = "restore the row or delete it"
UPGRADE = "install a newer version of this suite"
#: Times in seconds that are plausible: no call is shorter, and none lasts four months.
SHORTEST_S, LONGEST_S = 1e-12, 1e7
#: A minimum so far below the median of the rounds is a fault of the clock, or the row `unstable`.
MIN_BELOW_MEDIAN = 100.0
#: A tolerance beyond this would accept any answer.
LARGEST_TOLERANCE = 100.0
#: Two statistics of the same rounds may differ by the rounding of a sum.
_ROUNDING = 1e-6
#: Statuses of a cell whose answer agreed with the reference.
_RIGHT = ("ok", "unstable", "fallback")


class Check(NamedTuple):
    """One rule of a valid row: the columns it holds for, which values break it, and the message.

    ``{}`` in the message stands for the value, ``{!r}`` for the value in quotes.
    """

    columns: Sequence[str]
    broken: Callable[[np.ndarray, Columns], np.ndarray]
    message: str
    remedy: str = RESTORE


#: The message for a schema that only a later suite knows.
NEWER = f"schema {{}} is newer than {schema.SCHEMA_VERSION}, the newest known here"


def is_time(text: object) -> bool:
    """Whether a text is a date or a time in ISO 8601."""
    try:
        datetime.fromisoformat(str(text))
    except ValueError:
        return False
    return True


def _no_times(values: np.ndarray, _: Columns) -> np.ndarray:
    """Whether texts are no times; an imported run may be of unknown time."""
    known = {text: is_time(text) for text in set(values.tolist())}
    broken = np.array([not known[text] for text in values.tolist()], bool)
    return broken & (values != schema.UNKNOWN) if broken.any() else broken


def _in_order(lower: str, upper: str) -> Check:
    """Return the rule that one statistic of a row is not above another one.

    Imported statistics may contradict each other; their row is `unstable` for that.
    """

    def broken(values: np.ndarray, columns: Columns) -> np.ndarray:
        found = values * (1 + _ROUNDING) < columns[lower]
        if found.any():
            for place in np.flatnonzero(found):
                imported = str(columns["run_id"][place]).startswith(schema.IMPORTED)
                found[place] = not (imported and columns["status"][place] == "unstable")
        return found

    return Check([upper], broken, f"{{}} is below {lower}")


def _is(columns: Columns, *statuses: str) -> np.ndarray:
    return np.isin(columns["status"].astype(str), statuses)


_NUMBERS = tuple(c for c in schema.COLUMNS if c not in schema.TEXTS)
_SECONDS = tuple(c for c in schema.FLOATS if c.endswith("_s"))
_ORDER = ("min_s", "q1_s", "median_s", "q3_s", "max_s")
_PAIRS = (
    *((low, high) for place, high in enumerate(_ORDER) for low in _ORDER[:place]),
    ("ci_low_s", "ci_high_s"),
)
#: What makes a row valid besides numbers that are numbers, in the order in which faults are named.
CHECKS = (
    Check(
        [c for c in schema.REQUIRED if c in schema.TEXTS], lambda values, _: values == "", "blank"
    ),
    Check(["schema_version"], lambda values, _: np.isnan(values), "blank"),
    Check(
        [c for c in _NUMBERS if c not in schema.UNBOUNDED],
        lambda values, _: np.isinf(values),
        "{!r} is not a finite number",
    ),
    Check(
        [c for c in _NUMBERS if c not in schema.SIGNED],
        lambda values, _: values < 0,
        "{!r} is negative",
    ),
    Check(["schema_version"], lambda values, _: values > schema.SCHEMA_VERSION, NEWER, UPGRADE),
    Check(
        ["schema_version"],
        lambda values, _: ~np.isin(values, list(schema.WIDTHS)),
        "no schema {} exists",
    ),
    Check(
        ["status"],
        lambda values, _: ~np.isin(values.astype(str), schema.STATUSES),
        "unknown status {!r}",
        f"it is one of {', '.join(schema.STATUSES)}",
    ),
    Check(["run_started"], _no_times, "{!r} is not a time"),
    Check(
        ["rounds", "iterations", "cpu_count", "threads", "memory_bytes"],
        lambda values, _: values < 1,
        "{} is less than 1",
    ),
    Check(
        ["median_s"],
        lambda values, columns: np.isnan(values) & _is(columns, "ok"),
        "blank in a row with status 'ok'",
    ),
    Check(
        ["median_s", "min_s"],
        lambda values, columns: (values < SHORTEST_S) & _is(columns, "ok"),
        "{} s is shorter than any call",
    ),
    Check(_SECONDS, lambda values, _: values > LONGEST_S, "{} s is longer than any call"),
    *(_in_order(*pair) for pair in _PAIRS),
    Check(
        ["min_s"],
        lambda values, columns: (
            (values * MIN_BELOW_MEDIAN < columns["median_s"]) & _is(columns, "ok")
        ),
        "{} is less than a hundredth of the median",
    ),
    Check(
        ["tolerance"], lambda values, _: values > LARGEST_TOLERANCE, "{} would accept any answer"
    ),
    Check(
        ["rel_error"],
        lambda values, columns: (
            ((values > columns["tolerance"]) | np.isinf(values)) & _is(columns, *_RIGHT)
        ),
        "{} is outside the tolerance of an answer that agrees",
    ),
)


def faults(columns: Columns) -> Iterator[tuple[np.ndarray, Check, str]]:
    """Yield the numbers of the rows that break each check, with the check and the column."""
    for check in CHECKS:
        for name in check.columns:
            broken = check.broken(columns[name], columns)
            if broken.any():
                yield np.flatnonzero(broken), check, name
