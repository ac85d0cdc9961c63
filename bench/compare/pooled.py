"""Several runs of one machine as one: runs, not rounds, are the replicates."""

import pandas as pd

from bench.compare import observations
from bench.records import schema


def pool(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell of a frame of several runs.

    It is the `ok` row with the middle median; of two, the slower one, because the faster may be
    chance. If no run was `ok`, it is the last row; if one was wrong, it is that row.
    """
    group = frame.groupby(list(schema.CELL), sort=False, dropna=False).ngroup().to_numpy()
    wrong = frame[frame.status == "wrong"]
    last = frame.drop_duplicates(list(schema.CELL), keep="last")
    usable = (frame.status == "ok") & ~observations.wrong_somewhere(frame, group)
    ok = frame[usable].sort_values("median_s", kind="stable")
    groups = ok.groupby(list(schema.CELL), sort=False, dropna=False)
    place, size = groups.cumcount(), groups.status.transform("size")
    both = pd.concat([wrong, ok[place == size // 2], last]).drop_duplicates(list(schema.CELL))
    # In the order of the first run, as in a table of one run.
    order = pd.MultiIndex.from_frame(frame[list(schema.CELL)].drop_duplicates())
    return both.set_index(list(schema.CELL)).loc[order].reset_index()[list(schema.COLUMNS)]
