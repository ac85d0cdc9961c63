"""What a user must know of a run beside its times, in a few lines."""

import pandas as pd

#: Cells named one by one; a run that went wrong altogether says so in its first lines.
NAMED = 12
#: Statuses whose every cell is named with its reason.
_TELLING = ("wrong", "oom", "error", "fallback")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}"


def _named(frame: pd.DataFrame) -> list[str]:
    """Return the names of the rows' cells."""
    columns = frame[["benchmark", "device", "dtype", "params"]].to_numpy().tolist()
    return [" ".join(filter(None, map(str, parts))).replace(";", " ") for parts in columns]


def lines(frame: pd.DataFrame) -> list[str]:
    """Return the number of cells by status, and what went wrong with the reason of each."""
    if frame.empty:
        return []
    counts = frame.status.value_counts()
    told = [f"{len(frame):,} cells: " + ", ".join(_count(n, str(s)) for s, n in counts.items())]
    telling = frame[frame.status.isin(_TELLING)]
    reasons = zip(telling.status, _named(telling), telling.reason, strict=True)
    told += [f"{status}: {cell}: {reason}" for status, cell, reason in list(reasons)[:NAMED]]
    if len(telling) > NAMED:
        told.append(f"... and {len(telling) - NAMED:,} more; the reasons are in the CSV")
    if {"loader", "step"} <= set(frame.benchmark):
        # Here, since it brings scipy, which every process of the suite would wait for.
        from bench.compare import rates

        told += rates.bottlenecks(frame)
    unstable = frame[frame.status == "unstable"]
    if len(unstable):
        # Alike but for their figures.
        kinds = unstable.reason.str.replace(r"[\d.]+", "#", regex=True)
        example = unstable[kinds == kinds.mode()[0]].head(1)
        told.append(f"unstable, most often like {_named(example)[0]}: {example.reason.iloc[0]}")
    return told
