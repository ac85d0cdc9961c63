"""The hooks of pytest: options, the cells to time, the fixture `cell`, rows, the final table."""

import dataclasses
import functools
import gc
import time
import traceback
from typing import Any, cast

import pytest

from bench.exchange.exports import extra_info
from bench.measure import environment, kernels, placement, precision, refusal, state
from bench.measure.disturbance import Visit
from bench.measure.rounds import Plan
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
from bench.plugin.options import REPORTER, RUN, Run
from bench.plugin.rows import CELL
from bench.records import reader
from bench.records.lines import of_exception
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
            terminal.write_line(fit.fill(line, fit.terminal()))
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


@pytest.fixture
def cell(request: pytest.FixtureRequest, benchmark: Any, device: str, dtype: str) -> Any:
    """The timed call of a benchmark, on the device and in the dtype of its parametrization."""
    run = request.config.stash[RUN]
    on = run.devices[device]
    if device in run.lost:
        raise refusal.DeviceLost(reasons.lost(device, run.lost[device]))

    def hand_over(visit: Visit | None, call: functools.partial[Any]) -> None:
        """Give the rounds to pytest-benchmark, for its table, files and options.

        Its own single round, on the device's clock, makes the entry; the measured rounds replace
        that round. It calls the operation only for --benchmark-cprofile.
        """
        if visit is None or not benchmark.enabled:
            benchmark.pedantic(call)
            return
        profiled = request.config.getoption("benchmark_cprofile")
        if profiled:  # a partial would hide a function in C from the profiler
            benchmark.pedantic(call.func, call.args, call.keywords, iterations=visit.iterations)
        else:
            benchmark.pedantic(lambda: None, iterations=visit.iterations)
        assert benchmark.stats.options["timer"] == on.clock, "timed by another device's clock"
        rows.hand_over(benchmark.stats, visit.rounds_s, visit.iterations)

    mark = request.node.get_closest_marker("benchmark")
    plan = plans.plan(run.profile, request.config, mark.kwargs) if benchmark.enabled else None
    made = revisits.make_cell(request.node, run, plan, hand_over=hand_over)
    request.node.stash[CELL] = made
    yield made
    made.close()
    if benchmark.stats is None:
        benchmark.skipped = True  # it ended before it was timed, and its row has the reason


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """Restore what a benchmark changes in the process, so that it reaches no other cell."""
    if not rows.is_cell(pyfuncitem):
        return (yield)

    def close() -> None:
        if CELL in pyfuncitem.stash:
            pyfuncitem.stash[CELL].close()

    with state.kept(close) as pyfuncitem.stash[rows.CHANGED]:
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Write the row of a cell that has ended; an operation that a backend refuses is a skip."""
    report = yield
    if not rows.is_cell(item):
        return report
    run = item.config.stash[RUN]
    raised = call.excinfo
    if call.when == "teardown" or (call.when == "setup" and raised is None):
        return report
    try:
        if raised is None:
            status, reason = rows.outcome(item.stash[CELL].result, run)
        else:
            status, reason = rows.of_exception(raised.value)
    except Exception as problem:  # a note that is no text, say
        status, reason = "error", f"the benchmark has no valid reason: {of_exception(problem)}"
        report.outcome, report.longrepr = "failed", reason
    if raised is not None:
        if status == "unsupported" and report.outcome == "failed":  # as `pytest.skip` does
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {reason}")
        elif status not in ("error", "unsupported"):
            report.longrepr = f"{status}: {reason}"
        # Frames hold their tensors: free these before the next cell needs the memory.
        traceback.clear_frames(raised.tb)
        device = run.devices[rows.given(item)["device"]]
        if status == "oom":
            gc.collect()
            device.free_memory()
        if status == "error" and device.name not in run.lost and (fault := device.fault()):
            run.lost[device.name] = fault
    if fault := _record(item, run, status, reason):
        report.outcome, report.longrepr = "failed", fault
    if CELL in item.stash:
        del item.stash[CELL]
    return report


def _record(item: pytest.Function, run: Run, status: str, reason: str) -> str:
    """Write the row of a cell; if it is not valid, an error row, and return what is wrong."""
    fault, fixture = "", cast(Any, item.funcargs.get("benchmark"))
    result = item.stash[CELL].result if CELL in item.stash else None
    try:
        try:
            made = rows.row(item, run, status, reason, result)
            if run.writer and not run.broken:
                run.writer.append(made)
            if fixture:
                fixture.extra_info |= extra_info(dataclasses.asdict(made))
            if result and result.visits and not run.profile.once:
                entry = fixture.stats if fixture else None
                plan = cast(Plan, item.stash[CELL].plan)
                cells = item.config.stash[revisits.TIMED]
                if cells and cells[-1].item is item:  # a plugin has run the test again
                    cells.pop()
                cells.append(revisits.Timed(item, result, status, reason, entry, plan))
        except CannotWrite:
            raise
        except Exception as problem:  # whatever a benchmark has declared costs only its own cell
            fault = f"the row of this cell is not valid: {of_exception(problem)}"
            if status == "ok" and not (result and result.visits):
                fault = "the benchmark timed nothing: it must call cell(...) once"
            status = "error"
            if run.writer and not run.broken:
                run.writer.append(rows.row(item, run, status, fault))
    except CannotWrite as problem:
        run.broken = str(problem)
        item.session.shouldstop = run.broken
    except Exception as problem:
        fault = f"no row of this cell can be written: {of_exception(problem)}"
    run.outcomes[item.nodeid] = status
    return fault


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
        terminalreporter.write_line(fit.fill(notice, fit.terminal()))
    frame = reader.read(run.writer.path)
    terminalreporter.write_line(run_end.text(frame[frame.run_id == run.id], run.writer.path))
