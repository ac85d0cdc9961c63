"""Other plugins of pytest beside the suite, by stand-ins with their hooks and options."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_benchmark.plugin
import torch

from bench.measure import rounds, state
from bench.measure.cell import Cell
from bench.measure.devices import find
from bench.plugin import conflicts, plans, revisits


def plugin(module, *options):
    """A stand-in for a plugin that adds options."""

    def add(parser, pluginmanager):
        group = parser.getgroup("its")
        for option in options:
            group.addoption(option, action="store")

    return SimpleNamespace(__name__=module, pytest_addoption=add)


@pytest.mark.parametrize(
    ("name", "module", "option"),
    [
        ("playwright", "pytest_playwright.pytest_playwright", "--device"),
        ("profiling", "pytest_profiling", "--profile"),
    ],
)
def test_a_plugin_with_an_option_of_the_suite_is_named(monkeypatch, name, module, option):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    known = [("other", plugin("pytest_other", "--other")), (name, plugin(module, "--x", option))]
    manager = SimpleNamespace(list_name_plugin=lambda: known)
    with pytest.raises(pytest.UsageError) as raised:
        conflicts.check_others(manager)
    assert str(raised.value) == (
        f"the plugin {name} ({module}) has the option {option}, and so has this suite; "
        f"leave it out with -p no:{name}"
    )


def test_plugins_that_come_after_the_suite_are_looked_at_too(monkeypatch):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    entries = [
        SimpleNamespace(name="broken", load=lambda: 1 / 0),
        SimpleNamespace(name="playwright", load=lambda: plugin("pytest_playwright", "--device")),
    ]
    monkeypatch.setattr(conflicts.metadata, "entry_points", lambda group: entries)
    blocked = set()
    manager = SimpleNamespace(list_name_plugin=list, is_blocked=lambda name: name in blocked)
    with pytest.raises(pytest.UsageError, match="the plugin playwright "):
        conflicts.check_others(manager)
    blocked.add("playwright")
    conflicts.check_others(manager)


def config(worker=False, **given):
    """A stand-in for pytest's config with these options."""
    known = {"benchmark_disable": False, "benchmark_skip": False, "dist": "no"} | given
    made = SimpleNamespace(getoption=lambda name, default=None: known.get(name, default))
    if worker:
        made.workerinput = {}
    return made


@pytest.mark.parametrize(
    ("active", "name"),
    [
        (config(dist="load"), "pytest-xdist"),
        (config(worker=True), "pytest-xdist"),
        (config(forked=True), "pytest-forked"),
        (config(codspeed=True, benchmark_disable=True), "pytest-codspeed"),
    ],
)
def test_a_plugin_that_takes_the_benchmarks_away_is_refused(active, name):
    with pytest.raises(pytest.UsageError, match=f"^{name} runs benchmarks .* --benchmark-skip$"):
        conflicts.check(active)


@pytest.mark.parametrize(
    "fine", [config(), config(dist="load", benchmark_skip=True), config(forked=False)]
)
def test_plugins_that_do_not_time_are_no_fault(fine):
    conflicts.check(fine)


def test_repeats_of_a_cell_in_a_run_are_refused():
    once = SimpleNamespace(callspec=SimpleNamespace(params={"n": 1, conflicts.STEP: 0}))
    again = SimpleNamespace(callspec=SimpleNamespace(params={"n": 1, conflicts.STEP: 1}))
    conflicts.check_items([once])
    with pytest.raises(pytest.UsageError, match=r"^pytest-repeat repeats .* bench run --runs N$"):
        conflicts.check_items([once, again])


def test_tracers_and_profilers_pause_while_rounds_are_timed():
    """As those of pytest-cov and of debuggers; they see the rest of the cell."""
    seen = []

    def watched(x):
        seen.append((sys.gettrace(), sys.getprofile()))
        return x.clone()

    def trace(*_):
        return None

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(trace)
    try:
        made = Cell(find("cpu"), torch.float32, rounds.Plan(5, 0, 0))
        made(watched, made.tensor(8), check=made.unchecked)
        after = sys.gettrace(), sys.getprofile()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    assert seen[0] == after == (trace, trace)
    assert (None, None) in seen


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has sys.monitoring")
def test_monitoring_pauses_too():
    calls, tool, events = [], 4, sys.monitoring.events
    sys.monitoring.use_tool_id(tool, "test")
    try:
        sys.monitoring.register_callback(tool, events.PY_START, lambda *_: calls.append(1))
        sys.monitoring.set_events(tool, events.PY_START)
        with state.tracers_paused():
            before = len(calls)
            plugin("x")
            assert len(calls) == before
        plugin("x")
        assert len(calls) > before
    finally:
        sys.monitoring.free_tool_id(tool)


@pytest.mark.parametrize("option", plans.IGNORED)
def test_an_option_of_pytest_benchmark_without_effect_is_named(option):
    for words in ((option, "7"), (f"{option}=7",)):
        args = SimpleNamespace(invocation_params=SimpleNamespace(args=words))
        (line,) = plans.ignored(args)
        assert line.startswith(f"note: {option} has no effect: ")
    other = SimpleNamespace(args=("--benchmark-min-rounds=7",))
    assert plans.ignored(SimpleNamespace(invocation_params=other)) == []


def test_every_option_of_pytest_benchmark_is_documented():
    found = conflicts._Names()
    pytest_benchmark.plugin.pytest_addoption(found)
    page = (Path(__file__).parent.parent / "docs" / "options.md").read_text()
    known = set(re.findall("`([a-z-]+)`", page.partition("## Options of pytest-benchmark")[2]))
    known = {f"--benchmark-{name}" for name in known} | set(re.findall("`(--[a-z-]+)`", page))
    assert found.found
    assert found.found <= known
    assert set(plans.IGNORED) <= known


RERUN = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(3):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""


@pytest.mark.integration
def test_the_last_attempt_of_a_rerun_cell_counts(suite, monkeypatch):
    """As pytest-rerunfailures does it."""
    visited = []
    monkeypatch.setattr(revisits, "until_spent", lambda run, cells, _: visited.extend(cells))
    suite.write(
        """
        attempts = []

        @dtypes("float32")
        def bench_flaky(cell):
            attempts.append(1)
            cell.work(items=4, bytes=32)
            cell(torch.neg, cell.tensor(4))
            if len(attempts) < 3:
                raise RuntimeError("not yet")
        """
    )
    (suite.pytester.path / "conftest.py").write_text(RERUN)
    done = suite.run("--benchmark-json", "out.json")
    assert done.ret == 0
    rows = suite.rows()
    assert list(rows.benchmark) == ["flaky"]
    assert rows.status[0] in ("ok", "unstable")
    assert [timed.status for timed in visited] == list(rows.status)
