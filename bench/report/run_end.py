"""What a run prints at its end: table, faults, the first answers, what to do next."""

import shlex
from pathlib import Path

import pandas as pd

from bench.records import schema
from bench.report import fit, table, units
from bench.report.phrases import cut

#: Cells named one by one; the rest are counted.
NAMED = 12


def _named(frame: pd.DataFrame) -> list[str]:
    """Return each row as ``status: cell: reason``."""
    names = [key.label for key in schema.cell_keys(frame)]
    rows = zip(frame.status, names, map(cut, frame.reason), strict=True)
    return [": ".join(filter(None, map(str, row))) for row in rows]


def lines(frame: pd.DataFrame) -> list[str]:
    """Return the number of cells by status, and what went wrong with the reason of each."""
    if frame.empty:
        return []
    counts = frame.status.value_counts()
    shown = ", ".join(f"{n:,} {status}" for status, n in counts.items())
    made = [f"{units.count(len(frame), 'cell')}: {shown}"]
    faults = _named(frame[frame.status.isin(schema.FAULTS)])
    made += faults[:NAMED]
    if len(faults) > NAMED:
        made.append(f"... and {len(faults) - NAMED:,} more; the reasons are in the CSV")
    return made + [f"for example {row}" for row in _named(frame[frame.status == "unstable"])[:1]]


def text(frame: pd.DataFrame, path: Path) -> str:
    """Return all of it for the rows of a file, for a terminal."""
    # Imported here: they load scipy, which every process of the suite would wait for.
    from bench.compare.pooled import pool
    from bench.report import answers

    pooled = pool(frame)
    parts = [table.by_dtype(pooled), fit.fill("\n".join(lines(pooled))), answers.first(frame)]
    return "\n\n".join([*filter(None, parts), following(frame, path)])


def following(frame: pd.DataFrame, path: Path) -> str:
    """Return what to do with the rows of a file."""
    runs = units.count(frame.run_id.nunique(), "run")
    made = [f"{units.count(len(frame), 'row')} of {runs} in {path}"]
    single = schema.single_call(frame)
    if single.any() and single.sum() == frame.rounds.notna().sum():
        return "\n".join([*made, "to time them: the same command without --profile smoke"])
    file = shlex.quote(str(path))
    made.append(f"all answers:  bench verdict {file}")
    made.append(f"pictures:     bench report {file} -o report.html")
    return "\n".join(made)
