"""Several runs of one machine as one: runs, not rounds, are the replicates."""

import pandas as pd

from bench.records import schema


def pool(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell of a frame of several runs.

    It is the row whose median is in the middle of the `ok` runs' (the slower of two: what
    one of them alone reached may be a fluke); a cell that was ok in no run has its last row. An
    answer that was wrong in one run is wrong.
    """
    wrong = frame[frame.status == "wrong"]
    last = frame.drop_duplicates(list(schema.CELL), keep="last")
    ok = frame[frame.status == "ok"].sort_values("median_s", kind="stable")
    groups = ok.groupby(list(schema.CELL), sort=False, dropna=False)
    place, size = groups.cumcount(), groups.status.transform("size")
    middle = ok[place == size // 2]
    both = pd.concat([wrong, middle, last]).drop_duplicates(list(schema.CELL))
    # In the order of the first run, where a table of one run has its rows.
    order = pd.MultiIndex.from_frame(frame[list(schema.CELL)].drop_duplicates())
    return both.set_index(list(schema.CELL)).loc[order].reset_index()[list(schema.COLUMNS)]
