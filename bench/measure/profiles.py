"""The profiles, and how they and pytest-benchmark's options make the plan of a cell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from bench.measure.rounds import Plan
from bench.records.choices import unknown

#: pytest-benchmark's own defaults; an option still at one of them leaves the profile in charge.
_PYTEST_BENCHMARK = {
    "benchmark_min_rounds": 5,
    "benchmark_max_time": 1.0,
    "benchmark_min_time": 0.000005,
}
#: Half the 95 % interval of the median, relative to it, at which a cell has been timed enough.
PRECISION = 0.01


@dataclass(frozen=True)
class Profile:
    """Which cells are timed, and for how long each: seconds, and a smallest number of rounds."""

    every_size: bool
    every_dtype: bool
    min_rounds: int
    max_time_s: float
    min_time_s: float
    limit_s: float

    @property
    def once(self) -> bool:
        """Whether every cell is called once, and nothing is said of its noise."""
        return self.max_time_s == 0

    def plan(self) -> Plan:
        """Return the plan of a cell that nothing else is asked of."""
        return Plan(self.min_rounds, self.max_time_s, self.min_time_s, limit_s=self.limit_s)


PROFILES = {
    "smoke": Profile(False, False, min_rounds=1, max_time_s=0, min_time_s=0, limit_s=0),
    "default": Profile(False, False, min_rounds=8, max_time_s=0.08, min_time_s=0.001, limit_s=2),
    "full": Profile(True, True, min_rounds=20, max_time_s=0.5, min_time_s=0.001, limit_s=20),
}


def find(name: str) -> Profile:
    """Return the profile called `name`; ValueError, one line, for any other."""
    if fault := unknown([name], PROFILES):
        raise ValueError(fault)
    return PROFILES[name]


def apply(profile: Profile, config: pytest.Config) -> None:
    """Give pytest-benchmark the profile's values where its options were not given.

    Its header, its files and the plan then agree. The garbage collector is off in timed rounds.
    """
    own = {
        "benchmark_min_rounds": profile.min_rounds,
        "benchmark_max_time": profile.max_time_s,
        "benchmark_min_time": profile.min_time_s,
    }
    words = config.invocation_params.args
    for name, value in own.items():
        flag = f"--{name.replace('_', '-')}"
        given = any(str(word).split("=")[0] == flag for word in words)
        if not given and float(config.getoption(name)) == _PYTEST_BENCHMARK[name]:
            setattr(config.option, name, value if isinstance(value, int) else str(value))
    config.option.benchmark_disable_gc = True


def plan(profile: Profile, config: pytest.Config, marked: Mapping[str, Any]) -> Plan:
    """Return the plan of a cell; a `benchmark` mark on it wins over the options.

    The profile's limit holds only for its own number of rounds, not for one that was asked for.
    """

    def value(name: str) -> Any:
        return marked.get(name, config.getoption(f"benchmark_{name}", None))

    min_rounds = int(value("min_rounds"))
    return Plan(
        min_rounds=min_rounds,
        max_time_s=float(value("max_time")),
        min_time_s=float(value("min_time")),
        precision=float(value("precision") or PRECISION),
        limit_s=profile.limit_s if min_rounds == profile.min_rounds else math.inf,
    )
