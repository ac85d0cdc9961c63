"""Two sets of runs for the gate, whose true times are known."""

import random

from bench.gate import check
from bench.records.schema import CellKey
from tests.helpers.frames import frame

#: Thirty cells by key.
KEYS = [CellKey("tensors", "cat", "cpu", "float32", f"n={n}") for n in range(30)]
CELLS = 40


def runs(count=5, slow=None, noise=0.02, seed=1, cells=CELLS, **columns):
    """Rows of `count` runs; `slow` maps a cell's number to the factor it is slower by."""
    source = random.Random(seed)
    rows = []
    for run in range(count):
        for number in range(cells):
            true = 1e-4 * (1 + number) * (slow or {}).get(number, 1.0)
            seconds = true * source.lognormvariate(0, noise)
            rows.append(
                {"run_id": f"{seed}-{run}", "params": f"n={number}"}
                | {"min_s": seconds, "median_s": 1.05 * seconds}
                | columns
            )
    return rows


def judged(old, new, **settings):
    return check.check(frame(*old), frame(*new), **settings)


def spoiled(rows, *statuses, params="n=2"):
    """The same rows, in which a cell has these statuses in turn, the last one from there on."""
    left = list(statuses)
    made = []
    for each in rows:
        if each["params"] == params:
            status = left.pop(0) if len(left) > 1 else left[0]
            each = each | {"status": status, "reason": "" if status == "ok" else f"why {status}"}
        made.append(each)
    return made


WITH, NEW_WITH = runs(seed=1, cells=6), runs(seed=2, cells=6)
WITHOUT, NEW_WITHOUT = ([r for r in rows if r["params"] != "n=2"] for rows in (WITH, NEW_WITH))


def verdicts(outcome, verdict):
    """The last param of each cell with a verdict."""
    return [cell.key[-1] for cell in outcome.cells if cell.verdict == verdict]
