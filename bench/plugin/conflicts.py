"""Refuse other pytest plugins that would spoil a run, each in one line that names it."""

import contextlib
import inspect
import os
from importlib import metadata
from typing import Any, cast

import pytest

from bench.plugin import options, plans

#: Options that ask for the table of pytest-benchmark, or for what it prints with it.
_TABLE = (
    *("--benchmark-columns", "--benchmark-sort", "--benchmark-group-by", "--benchmark-name"),
    *("--benchmark-verbose", "--benchmark-compare", "--benchmark-histogram"),
    "--benchmark-cprofile",
)
#: What pytest-repeat adds to the params of a test.
STEP = "__pytest_repeat_step_number"


class _Names:
    """Takes the place of a parser, and keeps the names of the options that a plugin adds."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def getgroup(self, *_: Any, **__: Any) -> "_Names":
        return self

    def addoption(self, *names: str, **__: Any) -> None:
        self.found.update(names)

    def addini(self, *_: Any, **__: Any) -> None:
        """Settings in files have names of their own."""

    _addoption = addoption


def check_others(manager: pytest.PytestPluginManager) -> None:
    """Raise UsageError if a plugin that is there, or comes next, has an option of the suite."""
    plugins = dict(manager.list_name_plugin())
    if not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        for entry in metadata.entry_points(group="pytest11"):
            if not manager.is_blocked(entry.name):
                with contextlib.suppress(Exception):  # pytest names what cannot be loaded
                    plugins.setdefault(entry.name, entry.load())
    own = _Names()
    options.add(cast(Any, own))
    for name, plugin in plugins.items():
        if clash := sorted(own.found & _added(plugin, manager)):
            module = getattr(plugin, "__name__", type(plugin).__module__)
            raise pytest.UsageError(
                f"the plugin {name} ({module}) has the option {clash[0]}, and so has this suite; "
                f"leave it out with -p no:{name}"
            )


def _added(plugin: object, manager: pytest.PytestPluginManager) -> set[str]:
    """Return the options that a plugin adds, unless it is pytest, pytest-benchmark or the suite."""
    add: Any = getattr(plugin, "pytest_addoption", None)
    module = str(getattr(plugin, "__name__", type(plugin).__module__))
    names = _Names()
    if add and not module.startswith(("_pytest.", "bench.", "pytest_benchmark")):
        with contextlib.suppress(Exception):  # it needs more than a parser: pytest names a clash
            given = {"parser": names, "pluginmanager": manager}
            add(**{name: given[name] for name in inspect.signature(add).parameters})
    return names.found


def check(config: pytest.Config) -> None:
    """Raise UsageError if an active plugin takes the benchmarks out of this process."""
    codspeed = config.getoption("codspeed", False)  # which sets benchmark_disable itself
    disabled = config.getoption("benchmark_disable") and not codspeed
    if disabled or config.getoption("benchmark_skip"):
        return
    distributed = config.getoption("dist", "no") != "no" or hasattr(config, "workerinput")
    active = {
        "pytest-xdist": ("-n0", distributed),
        "pytest-forked": ("-p no:forked", config.getoption("forked", False)),
        "pytest-codspeed": ("-p no:codspeed", codspeed),
    }
    for name, (remedy, on) in active.items():
        if on:
            raise pytest.UsageError(
                f"{name} runs benchmarks in processes of its own or replaces their timer; "
                f"time them without it: {remedy}, or leave them out: --benchmark-skip"
            )


def check_items(items: list[pytest.Function]) -> None:
    """Raise UsageError if pytest-repeat would time a cell several times in one run."""
    for item in items:
        if item.callspec.params.get(STEP):
            raise pytest.UsageError(
                "pytest-repeat repeats a cell within a run; "
                "time several runs instead: bench run --runs N"
            )


def wants_table(config: pytest.Config) -> bool:
    """Whether an option on the command line asks for the table of pytest-benchmark."""
    return any(word.startswith(_TABLE) for word in plans.given(config))
