"""Every rule, and what all of them find on a machine."""

from collections.abc import Callable, Iterator

import pandas as pd

from bench.compare import cells
from bench.compare.cells import Cell
from bench.verdicts.alternatives import copies, dtypes, in_place, optimizers
from bench.verdicts.calls import first_calls, launches
from bench.verdicts.faults import faults, unsettled, unsupported
from bench.verdicts.finding import Finding
from bench.verdicts.loading import bottlenecks, loading
from bench.verdicts.peaks import arithmetic, bandwidth
from bench.verdicts.sizes import devices, overhead

Rule = Callable[[list[Cell]], Iterator[Finding]]
#: Rules that give advice, ...
ADVICE: tuple[Rule, ...] = (
    *(faults, devices, dtypes, loading, optimizers, in_place, copies, unsupported, unsettled),
    bottlenecks,
)
#: ... and those that state what the machine is.
FACTS: tuple[Rule, ...] = (bandwidth, arithmetic, overhead, launches, first_calls)


def of(frame: pd.DataFrame) -> tuple[list[Finding], list[Finding]]:
    """Return the advice on the machine of a frame, what is worth most first, and the facts."""
    found = cells.of(frame)
    advice, facts = ([made for rule in rules for made in rule(found)] for rules in (ADVICE, FACTS))
    return sorted(advice, key=lambda made: -made.worth), facts
