"""The glue between pytest and the suite: options, cells, the fixture, rows, the table."""

import gc
import traceback
from pathlib import Path
from typing import Any

import pytest

from bench import __version__, axes, options
from bench.measure import (
    dtypes,
    profiles,
    refusal,
    rounds,
    stability,
    threads,
)
from bench.measure.cell import Cell, Disturbed, Result
from bench.options import Run
from bench.records import reader
from bench.records.schema import Row, join_params
from bench.records.writer import CannotWrite, create, reopen
from bench.report import table

RUN = pytest.StashKey[Run]()
CELL = pytest.StashKey[Cell]()
EARLIER = pytest.StashKey[list[Result]]()
#: How often a cell is measured at most before it counts as unstable, ...
ATTEMPTS = 3
#: ... and how many repeats a run has for all its cells, as a share of them (ten at the least).
REPEATS = 0.1


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a wrong one ends the run here, before anything is timed."""
    for name, meaning in (
        ("dtypes(*names)", "the dtypes the operation has a meaning for"),
        ("full", "a value only profile `full` times"),
        ("accelerator_only", "has no meaning on the host"),
    ):
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.stash[RUN] = options.read(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a cell for every device and every dtype the benchmark is marked with."""
    if "cell" not in metafunc.fixturenames:
        return
    run = metafunc.config.stash[RUN]
    mark = metafunc.definition.get_closest_marker("dtypes")
    names = mark.args if mark else axes.FLOATING
    cells = [(device, name) for device in run.devices for name in dtypes.NAMES if name in names]
    metafunc.parametrize(("device", "dtype"), cells, ids=["-".join(pair) for pair in cells])


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name the number in an id: ``n16``, ``dim0``; a word stands for itself."""
    return f"{argname}{val}" if isinstance(val, (int, float)) else None


def _wanted(item: pytest.Function, run: Run) -> bool:
    """Whether the profile and the options ask for this cell."""
    device, dtype = _given(item)["device"], _given(item)["dtype"]
    if (item.path.parent.name, _benchmark(item), device, dtype, _params(item)) in run.finished:
        return False
    if item.get_closest_marker("accelerator_only") and run.devices[device].is_host:
        return False
    if item.get_closest_marker("full") and not run.profile.every_size:
        return False
    if run.dtypes:
        return dtype in run.dtypes
    return run.profile.every_dtype or dtype in axes.DEFAULT_DTYPES


def _given(item: pytest.Function) -> dict[str, Any]:
    """Return the device, dtype and params of a cell, by name."""
    return dict(item.callspec.params)


def _neighbours(item: pytest.Function) -> tuple[str, str, str]:
    """What cells that differ in device and dtype alone have in common."""
    return str(item.path), item.originalname, _params(item)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for, put dtypes side by side, give each cell its clock."""
    run = config.stash[RUN]
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    groups: dict[Any, list[pytest.Item]] = {}
    for item in items:
        if not (isinstance(item, pytest.Function) and "cell" in item.fixturenames):
            kept.append(item)
        elif _wanted(item, run):
            groups.setdefault(_neighbours(item), []).append(item)
            # Only the closest `benchmark` mark counts, so ours holds what the others say too.
            marks = reversed(list(item.iter_markers("benchmark")))
            settings: dict[str, Any] = {"group": _benchmark(item)}
            settings |= {key: value for mark in marks for key, value in mark.kwargs.items()}
            settings["timer"] = run.devices[_given(item)["device"]].clock
            item.add_marker(pytest.mark.benchmark(**settings), append=False)
        else:
            left_out.append(item)
    # Side by side in time, a drift of the machine does not become a difference between dtypes.
    kept += [item for group in groups.values() for item in group]
    files: dict[tuple[str, str], Path] = {}
    for item in kept:
        if isinstance(item, pytest.Function) and "cell" in item.fixturenames:
            name = (item.path.parent.name, _benchmark(item))
            if files.setdefault(name, item.path) != item.path:
                raise pytest.UsageError(
                    f"{item.path}: {'/'.join(name)} is a benchmark of {files[name].name} too; "
                    "rename one of the two"
                )
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the results file before anything is timed, so that a bad folder is known at once."""
    config = session.config
    cells = [item for item in session.items if "cell" in getattr(item, "fixturenames", ())]
    times = not (config.getoption("benchmark_disable") or config.getoption("benchmark_skip"))
    times = times or config.getoption("benchmark_enable") or config.getoption("benchmark_only")
    if not cells or not times or config.getoption("collectonly"):
        return
    run = config.stash[RUN]
    for name, device in run.devices.items():
        if not device.is_host and not device.wait_waits(device.long_work):
            raise pytest.UsageError(
                f"--device {name}: waiting for the device does not wait for its work, so its times "
                "would be those of the launch alone; update torch or the driver"
            )
    try:
        run.writer = reopen(run.resumed) if run.resumed else create(run.folder, run.started)
    except CannotWrite as problem:
        raise pytest.UsageError(str(problem)) from None
    run.placement = threads.place()
    run.clock_cost_s = {name: device.clock_cost() for name, device in run.devices.items()}
    run.yardstick = stability.Yardstick()
    run.repeats_left = max(10, int(REPEATS * len(cells)))
    # What torch and pytest have made stays; the collections between cells need not look at it.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the interpreter clean up and the threads run as usual."""
    gc.unfreeze()
    session.config.stash[RUN].placement.undo()


@pytest.fixture
def cell(request: pytest.FixtureRequest, benchmark: Any, device: str, dtype: str) -> Any:
    """The timed call of a benchmark, on the device and in the dtype of its parametrization."""
    run = request.config.stash[RUN]
    on = run.devices[device]

    def hand_over(timing: rounds.Timing | None, call: Any) -> None:
        """Enter the rounds into pytest-benchmark, whose table, files and options go on from here.

        Its own single round, timed by the device's clock, opens the entry (and serves
        --benchmark-cprofile); the rounds that were measured take its place.
        """
        if timing is None or not benchmark.enabled:
            benchmark.pedantic(call)
            return
        benchmark.pedantic(call, rounds=1, iterations=timing.iterations)
        assert benchmark.stats.options["timer"] == on.clock, "timed by another device's clock"
        benchmark.stats.stats.data.clear()
        for seconds in timing.rounds_s:
            benchmark.stats.update(seconds * timing.iterations)

    mark = request.node.get_closest_marker("benchmark")
    earlier = request.node.stash.setdefault(EARLIER, [])
    made = Cell(
        on,
        dtypes.find(dtype),
        profiles.plan(run.profile, request.config, mark.kwargs) if benchmark.enabled else None,
        run.clock_cost_s.get(device, 0.0),
        hand_over,
        run.yardstick,
        earlier,
        run.repeats_left > 0 and len(earlier) + 1 < ATTEMPTS,
    )
    request.node.stash[CELL] = made
    yield made
    if benchmark.stats is None:
        benchmark.skipped = True  # it ended before it was timed, and its row says why
    benchmark.extra_info |= {
        name: value
        for name in ("items", "item_unit", "bytes", "flop")
        if (value := getattr(made.result, name)) is not None
    }


def _benchmark(item: pytest.Function) -> str:
    return item.originalname.removeprefix("bench_")


def _params(item: pytest.Function) -> str:
    given = _given(item)
    return join_params({name: given[name] for name in given if name not in ("device", "dtype")})


def _row(item: pytest.Function, run: Run, status: str, reason: str) -> Row:
    """The row of a cell that has ended."""
    device = run.devices[_given(item)["device"]]
    known: dict[str, Any] = dict(run.environment.columns())
    if CELL in item.stash:
        result = item.stash[CELL].result
        if result.timing:
            known |= rounds.summary(result.timing)
        known |= {
            "first_call_s": result.first_call_s,
            "dispatch_s": result.dispatch_s,
            "items": result.items,
            "item_unit": result.item_unit,
            "bytes": result.bytes,
            "flop": result.flop,
            "rel_error": result.answer.rel_error,
            "tolerance": result.answer.tolerance,
            "involuntary_switches": result.signs.involuntary_switches,
            "drift": result.signs.drift,
        }
    return Row(
        suite_version=__version__,
        run_id=run.id,
        run_started=run.started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        machine=run.machine,
        device_name=device.model or run.environment.cpu,
        driver=device.driver,
        family=item.path.parent.name,
        benchmark=_benchmark(item),
        device=device.name,
        dtype=_given(item)["dtype"],
        params=_params(item),
        status=status,
        reason=reason,
        **known,
    )


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn the end of a cell into its row, and what a backend refuses into a skip."""
    report = yield
    if not isinstance(item, pytest.Function) or "cell" not in item.fixturenames:
        return report
    run = item.config.stash[RUN]
    raised = call.excinfo
    if raised is None and call.when != "call":
        return report
    if raised is None:
        faults = item.stash[CELL].result.signs.faults
        status, reason = ("unstable", "; ".join(faults)) if faults else ("ok", "")
    elif isinstance(raised.value, Disturbed):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {raised.value}")
        report.again = True
        # The loop over the items goes on while it finds some: the cell comes again at the end.
        item.session.items.append(item)
        run.repeats_left -= 1
        item.session.testscollected += 1
        return report
    else:
        if call.when == "teardown" or isinstance(raised.value, pytest.skip.Exception):
            return report
        status, reason = refusal.classify(raised.value)
        if status == "unsupported":
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {reason}")
        elif status != "error":
            report.longrepr = f"{status}: {reason}"
        # Frames hold their tensors: let go of them before the next cell needs the memory.
        traceback.clear_frames(raised.tb)
    if run.writer and not run.broken:
        try:
            run.writer.append(_row(item, run, status, reason))
        except CannotWrite as problem:
            run.broken = str(problem)
            item.session.shouldstop = run.broken
    if CELL in item.stash:
        del item.stash[CELL]
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show a cell that is to be measured again as ``~``."""
    if getattr(report, "again", False):
        return "measured again", "~", "AGAIN"
    return None


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of this run and where its CSV is."""
    config = terminalreporter.config
    run = config.stash.get(RUN, None)
    if run is None or run.writer is None:
        return
    run.writer.close()
    quiet = config.get_verbosity() < 0 or config.getoption("benchmark_quiet")
    if quiet or run.writer.rows == 0:
        return
    terminalreporter.ensure_newline()
    terminalreporter.section("torch-device-bench")
    terminalreporter.write_line(table.by_dtype(reader.read(run.writer.path)))
    terminalreporter.write_line("")
    terminalreporter.write_line(f"{run.writer.rows} rows in {run.writer.path}")
