"""The profiles, and the plan of a cell from a profile and pytest-benchmark's options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from bench.measure.rounds import Plan
from bench.records.choices import unknown

#: pytest-benchmark's own defaults: an option that has its default does not override the profile.
_PYTEST_BENCHMARK = {
    "benchmark_min_rounds": 5,
    "benchmark_max_time": 1.0,
    "benchmark_min_time": 0.000005,
}


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
    "default": Profile(False, False, min_rounds=8, max_time_s=0.08, min_time_s=0.001, limit_s=2),
    "full": Profile(True, True, min_rounds=20, max_time_s=0.5, min_time_s=0.001, limit_s=20),
}


def find(name: str) -> Profile:
    """Return the profile called `name`. Raises ValueError for an unknown one."""
    if fault := unknown([name], PROFILES):
        raise ValueError(fault)
    return PROFILES[name]


def apply(profile: Profile, config: pytest.Config) -> None:
    """Set pytest-benchmark's options to the profile's values, unless the user gave them.

    Its header, its files and the plan then agree. Garbage collection is off in timed rounds.
    """
    values = (profile.min_rounds, profile.max_time_s, profile.min_time_s)
    words = config.invocation_params.args
    for name, value in zip(_PYTEST_BENCHMARK, values, strict=True):
        flag = f"--{name.replace('_', '-')}"
        given = any(str(word).split("=")[0] == flag for word in words)
        if not given and float(config.getoption(name)) == _PYTEST_BENCHMARK[name]:
            setattr(config.option, name, value if isinstance(value, int) else str(value))
    config.option.benchmark_disable_gc = True


def plan(profile: Profile, config: pytest.Config, marked: Mapping[str, Any]) -> Plan:
    """Return the plan of a cell; the arguments `marked` of its `benchmark` mark override options.

    The profile's limit applies to its own number of rounds only, not to one that the user chose.
    """

    def value(name: str) -> Any:
        return marked.get(name, config.getoption(f"benchmark_{name}", None))

    min_rounds = int(value("min_rounds"))
    return Plan(
        min_rounds=min_rounds,
        max_time_s=float(value("max_time")),
        min_time_s=float(value("min_time")),
        precision=float(value("precision") or Plan.precision),
        limit_s=profile.limit_s if min_rounds == profile.min_rounds else math.inf,
    )
