"""How far the machines of a crowd lie apart at each cell, where a column each would be too many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.compare.sides import CannotCompare
from bench.records import params, schema
from bench.records.many import RUN, Many

#: Machines beyond which a table with a column each cannot be read.
WIDE = 12


@dataclass(frozen=True)
class Spread:
    """A cell over machines: the median of each one's runs, in seconds, and how many had no time.

    `low` and `high` are the 10th and the 90th percentile of the machines.
    """

    key: tuple[str, ...]
    machines: int
    without: int
    median: float
    low: float
    high: float
    fastest: tuple[str, float]
    slowest: tuple[str, float]


def where(rows: Many, conditions: Sequence[str]) -> Many:
    """Return the rows that meet every condition, ``column=value`` (or ``a|b``); CannotCompare."""
    for condition in conditions:
        column, equals, value = condition.partition("=")
        table, place = (rows.cells, rows.cell) if column in schema.CELL else (rows.runs, rows.run)
        if not equals or column not in table.columns:
            known = ", ".join((*schema.CELL, *RUN))
            raise CannotCompare(f"--where {condition!r}: give COLUMN=VALUE; columns: {known}")
        wanted = table[column].astype(str).isin(value.split("|")).to_numpy()
        rows = rows.where(wanted[place])
        if not len(rows.cell):
            raise CannotCompare(f"--where {condition!r}: no row is left")
    return rows


def of(rows: Many) -> list[Spread]:
    """Return the spread of every cell that some machine has a time of, in natural order."""
    order = rows.runs.sort_values(["machine", "run_id"]).index.to_numpy()
    labels = rows.runs.machine.to_numpy()[order]
    names, starts = np.unique(labels, return_index=True)
    # A time of 0 is none: no clock can tell it from nothing.
    ok = (rows.status == schema.STATUSES.index("ok")) & (rows.median_s > 0)
    table = rows.table(np.where(ok, rows.median_s, np.nan), order)
    there = rows.table(np.ones(len(rows.cell)), order)
    ends = [*starts[1:], len(labels)]
    columns = zip(starts, ends, strict=True)
    medians = np.column_stack([_middle(table[:, a:b]) for a, b in columns])
    # An answer that was wrong in one run of a machine is wrong, however fast it was in the others.
    wrong = rows.table(1.0 * (rows.status == schema.STATUSES.index("wrong")), order)
    medians[np.logical_or.reduceat(wrong == 1, starts, axis=1)] = np.nan
    asked = np.logical_or.reduceat(~np.isnan(there), starts, axis=1).sum(axis=1)
    found = []
    for place in np.flatnonzero((~np.isnan(medians)).any(axis=1)):
        own = medians[place]
        low, middle, high = np.nanpercentile(own, (10, 50, 90)).tolist()
        first, last = int(np.nanargmin(own)), int(np.nanargmax(own))
        count = int((~np.isnan(own)).sum())
        key = tuple(rows.cells.iloc[place].astype(str))
        ends_of = (str(names[first]), float(own[first])), (str(names[last]), float(own[last]))
        without = int(asked[place]) - count
        found.append(Spread(key, count, without, middle, low, high, *ends_of))
    return sorted(found, key=lambda one: (*one.key[:4], params.natural(one.key[4])))


def _middle(table: np.ndarray) -> np.ndarray:
    """Return the median of each row, NaN where there is none."""
    if table.shape[1] == 1:
        return table[:, 0]
    return pd.DataFrame(table).median(axis=1).to_numpy()


def environment(rows: Many) -> dict[str, str]:
    """Return what the machines are and have, with how many machines where that differs."""
    found = {}
    for name in RUN[2:]:
        counts = rows.runs.groupby(name).machine.nunique().sort_values(ascending=False)
        said = [str(value) for value in counts.index if str(value)]
        if len(said) > 1:
            said = [f"{value} ({n:,} machines)" for value, n in counts.items()][:8]
        if said:
            found[name] = ", ".join(said)
    return found
