"""The hooks of pytest for a run: its options, the cells to time, later visits, the final table."""

import gc
import time
from typing import Any

import pytest

from bench.measure import environment, kernels, placement, precision
from bench.plugin import (
    collection,
    conflicts,
    options,
    plans,
    preflight,
    revisits,
    rows,
    unfinished,
)
from bench.plugin.options import REPORTER, RUN
from bench.records import reader
from bench.records.schema import FAILED
from bench.records.writer import CannotWrite
from bench.report import fit, reasons, run_end

#: Warnings about what the suite does on purpose: more workers than CPUs, a lambda sent to a worker,
#: and image files decoded by torchvision.
_EXPECTED = (
    "This DataLoader will create",
    "Got pickle error when attempting to start a worker",
    "The image decoding and encoding capabilities of TorchVision",
)
MARKERS = (
    "dtypes(*names, default): supported dtypes, and those that every profile times",
    "full: a value that only profile `full` times",
    "quick(**values): the values of params with which profile `quick` times a cell",
    "accelerator_only: not timed on the CPU",
    "host_only: timed on the CPU only",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options of the suite, unless another plugin has one of them."""
    conflicts.check_others(pluginmanager)
    options.add(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> Any:
    """Look at the options after each conftest has added its own."""
    made = yield
    options.check_known(parser, args)
    return made


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a wrong one ends the run before anything is timed.

    Any project may have benchmarks: functions ``bench_*`` in files ``bench_*.py``, or in any file
    that is named on the command line.
    """
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    for message in _EXPECTED:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")
    conflicts.check(config)
    config.stash[RUN] = options.read(config)
    config.stash[revisits.TIMED] = []


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Replace the name of the host, which no result of this suite holds, by the machine's label."""
    machine_info["node"] = config.stash[RUN].machine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a cell for every device and every dtype of the benchmark."""
    if "cell" in metafunc.fixturenames:
        cells = collection.pairs(metafunc.definition, metafunc.config.stash[RUN])
        metafunc.parametrize(("device", "dtype"), cells, ids=["-".join(pair) for pair in cells])


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Add its name to a number in an id: ``n16``, ``dim0``."""
    return f"{argname}{val}" if isinstance(val, (int, float)) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is not wanted, put dtypes next to each other, give each cell its clock."""
    run = config.stash[RUN]
    try:
        kept, left_out = collection.chosen(items, run)
    except pytest.UsageError:
        items.clear()  # so that no results file is created
        raise
    for item in filter(rows.is_cell, kept):
        item.add_marker(collection.timed_by(item, run), append=False)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    """Report values without a name, and the name by which they are recorded."""
    return collection.nameless(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Create the results file and prepare the machine before anything is timed."""
    config = session.config
    cells = list(filter(rows.is_cell, session.items))
    times = not (config.getoption("benchmark_disable") or config.getoption("benchmark_skip"))
    times = times or config.getoption("benchmark_enable") or config.getoption("benchmark_only")
    if not cells or not times or config.getoption("collectonly"):
        return
    run = config.stash[RUN]
    try:
        run.writer = run.open_writer()
    except CannotWrite as problem:
        raise pytest.UsageError(str(problem)) from None
    environment.settle_allocator()
    precision.full()
    run.placement = placement.place()
    run.clock_cost_s = {
        name: max(run.tick_s, device.clock_cost()) for name, device in run.devices.items()
    }
    keys = set(map(rows.key, cells))
    unfinished.write(run.writer.path, run.id, run.profile_name, keys | run.finished)
    run.expected = {item.nodeid: run.writer.path for item in cells}
    run.preflight = [*preflight.lines(run, cells), *plans.ignored(config)]
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and config.get_verbosity() >= 0:
        for line in run.preflight:
            terminal.write_line(fit.fill(line))
    if not run.profile.once:
        accelerators = [device for device in run.devices.values() if not device.is_host]
        run.kernels = kernels.prepare(run.environment.key, accelerators)
        if run.kernels.absurd:
            run.notices.append(reasons.absurd(run.kernels.absurd))
    # The objects of torch and pytest stay; garbage collection between cells need not visit them.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Restore garbage collection and the placement of threads; store the calibration.

    The exit status is 1 if a cell failed, even if a mark such as `xfail` hides that from pytest.
    """
    gc.unfreeze()
    run = session.config.stash[RUN]
    if session.exitstatus == 0 and not FAILED.isdisjoint(run.outcomes.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if run.expected and run.expected.keys() <= run.outcomes.keys() and not run.broken:
        unfinished.remove(next(iter(run.expected.values())))
    if run.writer:
        run.kernels.store(run.environment.key)
    run.placement.undo()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Any:
    """Visit cells again when all have been visited once, until the budget is spent."""
    started = time.perf_counter()
    result = yield
    run = session.config.stash[RUN]
    if run.writer and not run.broken:
        cells = session.config.stash[revisits.TIMED]
        try:
            revisits.until_spent(run, cells, time.perf_counter() - started)
            run.notices += revisits.heated(cells, run.kernels)
        except CannotWrite as problem:
            run.notices.append(str(problem))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_group_stats(config: pytest.Config) -> Any:
    """Leave the cells out of the table of pytest-benchmark unless one of its options asks for it.

    It is 250 characters wide and has the same rounds as the table of this suite.
    """
    groups = yield
    if conflicts.wants_table(config):
        return groups
    cells = config.stash[RUN].outcomes
    kept = [
        (name, [one for one in group if one["fullname"] not in cells]) for name, group in groups
    ]
    return [(name, group) for name, group in kept if group]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Print the tables of this run and the path of its CSV."""
    config = terminalreporter.config
    run = config.stash.get(RUN, None)
    if run is None or run.writer is None:
        return
    run.writer.close()
    quiet = config.get_verbosity() < 0 or config.getoption("benchmark_quiet")
    quiet = quiet or config.pluginmanager.has_plugin(REPORTER)  # `bench run` prints it itself
    if quiet or run.writer.rows == 0:
        return
    terminalreporter.ensure_newline()
    terminalreporter.section("torch-device-bench")
    for notice in (*run.notices, *run.writer.notices):
        terminalreporter.write_line(fit.fill(notice))
    frame = reader.read(run.writer.path)
    terminalreporter.write_line(run_end.text(frame[frame.run_id == run.id], run.writer.path))
