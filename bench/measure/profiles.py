"""The profiles: which cells are timed, and for how long."""

from dataclasses import dataclass

from bench.measure.rounds import Plan
from bench.records.choices import unknown


@dataclass(frozen=True)
class Profile:
    """Which cells are timed, and for how long: seconds per cell, and a minimum of rounds."""

    every_size: bool
    every_dtype: bool
    min_rounds: int
    max_time_s: float
    min_time_s: float
    limit_s: float

    @property
    def once(self) -> bool:
        """Whether every cell is called once, so that its noise is unknown."""
        return self.plan().once

    def plan(self) -> Plan:
        """Return the plan of a cell without further options."""
        return Plan(self.min_rounds, self.max_time_s, self.min_time_s, limit_s=self.limit_s)


PROFILES = {
    "smoke": Profile(False, False, min_rounds=1, max_time_s=0, min_time_s=0, limit_s=0),
    "default": Profile(False, False, min_rounds=6, max_time_s=0.03, min_time_s=0.001, limit_s=0.4),
    "full": Profile(True, True, min_rounds=20, max_time_s=0.5, min_time_s=0.001, limit_s=20),
}


def find(name: str) -> Profile:
    """Return the profile called `name`. Raises ValueError for an unknown one."""
    if fault := unknown([name], PROFILES):
        raise ValueError(fault)
    return PROFILES[name]
