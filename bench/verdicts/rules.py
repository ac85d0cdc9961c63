"""What to use on a machine, in sentences that carry their figures."""

from collections.abc import Callable, Iterator

import pandas as pd

from bench.compare import cells, rates
from bench.compare.cells import Cell
from bench.verdicts.alternatives import copies, dtypes, in_place, optimizers
from bench.verdicts.faults import faults, unsettled, unsupported
from bench.verdicts.finding import Verdict
from bench.verdicts.loading import loading
from bench.verdicts.peaks import peaks
from bench.verdicts.sizes import devices, overhead

RULES: tuple[Callable[[list[Cell]], Iterator[Verdict]], ...] = (
    *(faults, devices, dtypes, loading, optimizers, in_place, copies, unsupported),
    *(unsettled, peaks, overhead),
)
#: What is known of a machine without being a difference between two ways of doing something.
FACTS = ("peak", "overhead")


def of(frame: pd.DataFrame) -> list[Verdict]:
    """Return the verdicts on the machine of a frame: faults, then by worth, then mere facts."""
    found = cells.of(frame)
    made = [verdict for rule in RULES for verdict in rule(found)]
    made += [Verdict("loading", text, 0.0) for text in rates.bottlenecks(frame)]
    told = [verdict for verdict in made if verdict.topic not in FACTS]
    told.sort(key=lambda verdict: -verdict.worth)
    return told + [verdict for verdict in made if verdict.topic in FACTS]
