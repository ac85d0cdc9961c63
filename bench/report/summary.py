"""What a user must know of a run beside its times, in a few lines."""

import pandas as pd

#: Cells named one by one; a run that went wrong altogether says so in its first lines.
NAMED = 12
#: Statuses whose every cell is named with its reason.
_TELLING = ("wrong", "oom", "error", "fallback")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}"


def cell(row: object) -> str:
    """Return the name of a row's cell, as it is typed after ``-k`` and its like."""
    parts = (getattr(row, name) for name in ("benchmark", "device", "dtype", "params"))
    return " ".join(filter(None, parts)).replace(";", " ")


def lines(frame: pd.DataFrame) -> list[str]:
    """Return the number of cells by status, and what went wrong with the reason of each."""
    if frame.empty:
        return []
    counts = frame.status.value_counts()
    told = [f"{len(frame):,} cells: " + ", ".join(_count(n, str(s)) for s, n in counts.items())]
    telling = frame[frame.status.isin(_TELLING)]
    told += [f"{row.status}: {cell(row)}: {row.reason}" for row in telling.head(NAMED).itertuples()]
    if len(telling) > NAMED:
        told.append(f"... and {len(telling) - NAMED:,} more; the reasons are in the CSV")
    unstable = frame[frame.status == "unstable"]
    if len(unstable):
        most = unstable.reason.str.replace(r"[\d.]+", "#", regex=True).mode()[0]
        example = unstable[unstable.reason.str.replace(r"[\d.]+", "#", regex=True) == most].iloc[0]
        told.append(f"unstable, most often like {cell(example)}: {example.reason}")
    return told
