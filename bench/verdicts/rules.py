"""Every rule, and what all of them find on a machine."""

import itertools

import pandas as pd

from bench.compare import cells
from bench.compare.cells import Cell
from bench.verdicts import alternatives, calls, faults, loading, peaks, plain, sizes
from bench.verdicts.finding import Finding

#: A module lists its rules: `ADVICE` on what to use, `FACTS` of the machine, or both. A rule
#: yields findings on the cells of one machine.
MODULES = (plain, peaks, sizes, alternatives, loading, calls, faults)


def comparisons(found: list[Cell]) -> int:
    """Return how many pairs of cells differ in device or dtype alone and have both a time."""
    groups = itertools.chain(cells.across(found, "device"), cells.across(found, "dtype"))
    timed = (sum(bool(cell.estimate.seconds) for cell in group.values()) for group in groups)
    return sum(count - 1 for count in timed if count > 1)


def of(frame: pd.DataFrame) -> tuple[list[Finding], list[Finding]]:
    """Return the advice on the machine of a frame, what is worth most first, and the facts."""
    found = cells.of(frame)
    advice, facts = (
        [made for module in MODULES for rule in getattr(module, kind, ()) for made in rule(found)]
        for kind in ("ADVICE", "FACTS")
    )
    return sorted(advice, key=lambda made: -made.worth), facts
