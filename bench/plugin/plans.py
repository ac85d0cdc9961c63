"""The options of pytest-benchmark: set by a profile, and read as the plan of each cell."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from bench.measure.profiles import Profile
from bench.measure.rounds import Plan

#: pytest-benchmark's own defaults: an option that has its default does not override the profile.
_DEFAULTS = {"benchmark_min_rounds": 5, "benchmark_max_time": 1.0, "benchmark_min_time": 0.000005}
#: Options of pytest-benchmark that have no effect on a cell, and why.
IGNORED = {
    "--benchmark-confidence": "the interval is that of 95 %",
    "--benchmark-calibration-precision": "a round lasts 100 times as long as reading the clock",
    "--benchmark-warmup": "the warm-up is always on",
    "--benchmark-warmup-iterations": "the warm-up lasts 10 ms or a million calls",
}


def given(config: pytest.Config) -> set[str]:
    """Return the words on the command line of pytest, options without their values."""
    return {str(word).partition("=")[0] for word in config.invocation_params.args}


def ignored(config: pytest.Config) -> list[str]:
    """Return a line for each given option that has no effect on a cell."""
    words = given(config)
    return [f"note: {o} has no effect: {why}" for o, why in IGNORED.items() if o in words]


def set_options(profile: Profile, config: pytest.Config) -> None:
    """Set pytest-benchmark's options to the profile's values, unless the user gave them.

    Its header, its files and the plan then agree. Garbage collection is off in timed rounds.
    """
    values = (profile.plan.min_rounds, profile.plan.max_time_s, profile.plan.min_time_s)
    for name, value in zip(_DEFAULTS, values, strict=True):
        by_user = f"--{name.replace('_', '-')}" in given(config)
        if not by_user and float(config.getoption(name)) == _DEFAULTS[name]:
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
        limit_s=profile.plan.limit_s if min_rounds == profile.plan.min_rounds else math.inf,
    )
