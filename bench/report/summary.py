"""What a user must know of a run besides its times, in a few lines."""

import pandas as pd

from bench.records import schema
from bench.verdicts.named import LOADER, STEP

#: Cells named one by one; the rest are counted.
NAMED = 12


def _named(frame: pd.DataFrame) -> list[str]:
    """Return each row as ``status: cell: reason``."""
    names = [key.label for key in schema.cell_keys(frame)]
    rows = zip(frame.status, names, frame.reason, strict=True)
    return [": ".join(filter(None, map(str, row))) for row in rows]


def lines(frame: pd.DataFrame) -> list[str]:
    """Return the number of cells by status, and what went wrong with the reason of each."""
    if frame.empty:
        return []
    counts = frame.status.value_counts()
    made = [f"{len(frame):,} cells: " + ", ".join(f"{n:,} {s}" for s, n in counts.items())]
    faults = _named(frame[frame.status.isin(schema.FAULTS)])
    made += faults[:NAMED]
    if len(faults) > NAMED:
        made.append(f"... and {len(faults) - NAMED:,} more; the reasons are in the CSV")
    chosen = frame[frame.benchmark.isin((LOADER.benchmark, STEP.benchmark))]
    if chosen.benchmark.nunique() == 2:
        # Imported here: it loads scipy, which every process of the suite would wait for.
        from bench.compare import cells
        from bench.report.sentences import sentence
        from bench.verdicts.loading import bottlenecks

        made += map(sentence, bottlenecks(cells.of(chosen)))
    return made + [f"for example {row}" for row in _named(frame[frame.status == "unstable"])[:1]]
