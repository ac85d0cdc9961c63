"""The profiles: which cells are timed, and for how long."""

import math
from dataclasses import dataclass, replace

from bench.measure.rounds import Plan


@dataclass(frozen=True)
class Profile:
    """Which cells are timed, and for how long: seconds per cell, and a minimum of rounds.

    All visits to all cells take `budget_per_cell_s` for each cell, at most `max_budget_s`.
    `marked_only`: of the suite, only the cells that are marked ``quick``.
    """

    every_size: bool
    every_dtype: bool
    min_rounds: int
    max_time_s: float
    min_time_s: float
    limit_s: float
    marked_only: bool = False
    budget_per_cell_s: float = 0.35
    max_budget_s: float = math.inf

    @property
    def once(self) -> bool:
        """Whether every cell is called once, so that its noise is unknown."""
        return self.plan().once

    def plan(self) -> Plan:
        """Return the plan of a cell without further options."""
        return Plan(self.min_rounds, self.max_time_s, self.min_time_s, limit_s=self.limit_s)

    def budget_s(self, cells: int) -> float:
        """Return how long all visits to so many cells take, unless the user says so."""
        return min(self.budget_per_cell_s * cells, self.max_budget_s)


_DEFAULT = Profile(False, False, min_rounds=6, max_time_s=0.03, min_time_s=0.001, limit_s=0.4)
PROFILES = {
    "smoke": Profile(False, False, min_rounds=1, max_time_s=0, min_time_s=0, limit_s=0),
    "quick": replace(_DEFAULT, marked_only=True, budget_per_cell_s=3, max_budget_s=50),
    "default": _DEFAULT,
    "full": Profile(True, True, min_rounds=20, max_time_s=0.5, min_time_s=0.001, limit_s=20),
}
