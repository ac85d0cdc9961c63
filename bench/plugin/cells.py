"""The fixture `cell`, and the hooks of pytest around a cell: what it changes, and its row."""

import dataclasses
import functools
import gc
import traceback
from typing import Any, cast

import pytest

from bench.exchange.exports import extra_info
from bench.measure import refusal, state
from bench.measure.disturbance import Visit
from bench.measure.rounds import Plan
from bench.plugin import plans, revisits, rows
from bench.plugin.options import RUN, Run
from bench.plugin.rows import CELL
from bench.records.lines import of_exception
from bench.records.writer import CannotWrite
from bench.report import reasons


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
