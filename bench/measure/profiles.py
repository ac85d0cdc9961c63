"""The profiles: which cells are timed, and for how long."""

import math
from dataclasses import dataclass, replace

from bench.measure.rounds import Plan


@dataclass(frozen=True)
class Profile:
    """Which cells are timed, by the `plan` of each without further options, and for how long.

    All visits to all cells take `budget_per_cell_s` for each cell, at most `max_budget_s`; up to
    `busy_times` as long while many cells are unstable, as on a busy machine.
    `marked_only`: of the suite, only the cells that are marked ``quick``.
    """

    plan: Plan
    every_size: bool = False
    every_dtype: bool = False
    marked_only: bool = False
    budget_per_cell_s: float = 0.35
    max_budget_s: float = math.inf
    busy_times: float = 1.0

    @property
    def once(self) -> bool:
        """Whether every cell is called once, so that its noise is unknown."""
        return self.plan.once

    def budget_s(self, cells: int) -> float:
        """Return how long all visits to so many cells take, unless the user says so."""
        return min(self.budget_per_cell_s * cells, self.max_budget_s)


_DEFAULT = Profile(Plan(min_rounds=6, max_time_s=0.03, min_time_s=0.001, limit_s=0.4))
_FULL = Plan(min_rounds=20, max_time_s=0.5, min_time_s=0.001, limit_s=20)
PROFILES = {
    "smoke": Profile(Plan(min_rounds=1, max_time_s=0, min_time_s=0, limit_s=0)),
    "quick": replace(
        _DEFAULT, marked_only=True, budget_per_cell_s=3, max_budget_s=50, busy_times=3
    ),
    "default": _DEFAULT,
    "full": Profile(_FULL, every_size=True, every_dtype=True),
}
