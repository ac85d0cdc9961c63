"""The glue between pytest and the suite: options, cells, the fixture, rows, the table."""

import dataclasses
import gc
import traceback
from pathlib import Path
from typing import Any

import pytest

from bench.exchange.exports import extra_info
from bench.measure import allocator, dtypes, placement, profiles, refusal, rounds
from bench.measure.cell import Cell, Disturbed, Result
from bench.plugin import options, rows
from bench.plugin.options import RUN, Run
from bench.plugin.rows import CELL
from bench.records import reader
from bench.records.params import split
from bench.records.writer import CannotWrite
from bench.report import summary, table
from bench.suite import axes

EARLIER = pytest.StashKey[list[Result]]()
#: How often a cell is measured at most before it counts as unstable, ...
ATTEMPTS = 3
#: ... and how many repeats a run has for all its cells, as a share of them (ten at the least).
REPEATS = 0.25
#: Warnings of what the suite does on purpose: more workers than CPUs, a lambda sent to a worker,
#: and the image files of torchvision, which it will leave to another package some day.
_EXPECTED = (
    "This DataLoader will create",
    "Got pickle error when attempting to start a worker",
    "The image decoding and encoding capabilities of TorchVision",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a wrong one ends the run here, before anything is timed."""
    for name, meaning in (
        ("dtypes(*names)", "the dtypes the operation has a meaning for"),
        ("full", "a value only profile `full` times"),
        ("accelerator_only", "has no meaning on the host"),
        ("host_only", "has a meaning on the host alone"),
    ):
        config.addinivalue_line("markers", f"{name}: {meaning}")
    for message in _EXPECTED:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
    config.stash[RUN] = options.read(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a cell for every device and every dtype the benchmark is marked with."""
    if "cell" not in metafunc.fixturenames:
        return
    run = metafunc.config.stash[RUN]
    mark = metafunc.definition.get_closest_marker("dtypes")
    names = mark.args if mark else axes.FLOATING
    # Thousands of cells that nobody asked for would take a second to collect; one of them must
    # stand for all where there is no other, to be left out later with its benchmark.
    here = [name for name in dtypes.NAMES if name in names]
    asked = [name for name in here if _wanted_dtype(name, run)] or here[:1]
    cells = [(device, name) for device in run.devices for name in asked]
    metafunc.parametrize(("device", "dtype"), cells, ids=["-".join(pair) for pair in cells])


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name the number in an id: ``n16``, ``dim0``; a word stands for itself."""
    return f"{argname}{val}" if isinstance(val, (int, float)) else None


def _wanted_dtype(dtype: str, run: Run) -> bool:
    """Whether the profile and the options ask for cells in this dtype."""
    if run.cells is not None:
        return any(cell[3] == dtype for cell in run.cells)
    if run.dtypes:
        return dtype in run.dtypes
    return run.profile.every_dtype or dtype in axes.DEFAULT_DTYPES


def _wanted(item: pytest.Function, run: Run) -> bool:
    """Whether the profile and the options ask for this cell."""
    family, given = rows.family(item), rows.given(item)
    device, dtype = given["device"], given["dtype"]
    cell = (family, rows.benchmark(item), device, dtype, rows.params(item))
    if cell in run.finished:
        return False
    if item.get_closest_marker("accelerator_only") and run.devices[device].is_host:
        return False
    if item.get_closest_marker("host_only") and not run.devices[device].is_host:
        return False
    if run.cells is not None:
        return cell in run.cells  # whatever profile or option they came from
    if family not in run.families if run.families else family in options.ON_REQUEST:
        return False
    if item.get_closest_marker("full") and not run.profile.every_size:
        return False
    return _wanted_dtype(dtype, run)


def _neighbours(item: pytest.Function) -> tuple[str, str, str]:
    """What cells that differ in device and dtype alone have in common."""
    return str(item.path), item.originalname, rows.params(item)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for, put dtypes side by side, give each cell its clock."""
    run = config.stash[RUN]
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    groups: dict[Any, list[pytest.Item]] = {}
    for item in items:
        if not (isinstance(item, pytest.Function) and rows.is_cell(item)):
            kept.append(item)
        elif _wanted(item, run):
            groups.setdefault(_neighbours(item), []).append(item)
            # Only the closest `benchmark` mark counts, so ours holds what the others say too.
            marks = reversed(list(item.iter_markers("benchmark")))
            settings: dict[str, Any] = {"group": rows.benchmark(item)}
            settings |= {key: value for mark in marks for key, value in mark.kwargs.items()}
            settings["timer"] = run.devices[rows.given(item)["device"]].clock
            item.add_marker(pytest.mark.benchmark(**settings), append=False)
        else:
            left_out.append(item)
    # Side by side in time, a drift of the machine does not become a difference between dtypes.
    kept += [item for group in groups.values() for item in group]
    items.clear()  # where a UsageError follows, no file is to be made
    files: dict[tuple[str, str], Path] = {}
    for item in kept:
        if isinstance(item, pytest.Function) and rows.is_cell(item):
            name = (rows.family(item), rows.benchmark(item))
            if files.setdefault(name, item.path) != item.path:
                raise pytest.UsageError(
                    f"{item.path}: {'/'.join(name)} is a benchmark of {files[name].name} too; "
                    "rename one of the two"
                )
    _refuse_duplicates(kept)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def _refuse_duplicates(items: list[pytest.Item]) -> None:
    """Raise UsageError where two cells could not be told apart in the results."""
    seen: dict[tuple[str, ...], str] = {}
    for item in items:
        if isinstance(item, pytest.Function) and rows.is_cell(item):
            given = rows.given(item)
            key = (*_neighbours(item), rows.family(item), given["device"], given["dtype"])
            if key in seen:
                raise pytest.UsageError(
                    f"{item.nodeid} and {seen[key]} have the same params in the results "
                    f"({rows.params(item) or 'none'}); give each its own name: "
                    "pytest.param(..., id=...)"
                )
            seen[key] = item.nodeid


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    """Report the values that have no name of their own, and by which they are recorded."""
    found: dict[tuple[str, str], list[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and rows.is_cell(item):
            words = split(rows.params(item))
            for name in rows.nameless(item):
                found.setdefault((item.originalname, name), []).append(words[name])
    return [
        f"{benchmark}: values of {name!r} have no name and are recorded as "
        f"{', '.join(dict.fromkeys(ids))}; name them: pytest.param(..., id=...)"
        for (benchmark, name), ids in found.items()
    ]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the results file before anything is timed, so that a bad folder is known at once."""
    config = session.config
    cells = list(filter(rows.is_cell, session.items))
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
        run.writer = run.open_writer()
    except CannotWrite as problem:
        raise pytest.UsageError(str(problem)) from None
    allocator.settle_allocator()
    run.placement = placement.place()
    run.clock_cost_s = {
        name: max(run.tick_s, device.clock_cost()) for name, device in run.devices.items()
    }
    if not run.profile.once:
        run.yardsticks = placement.yardsticks(run.environment.key, len(cells))
    run.repeats_left = max(10, int(REPEATS * len(cells)))
    # What torch and pytest have made stays; the collections between cells need not look at it.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the interpreter clean up and the threads run as usual."""
    gc.unfreeze()
    run = session.config.stash[RUN]
    if run.yardsticks:
        run.yardsticks.teach(run.environment.key)
    run.placement.undo()


def _nothing() -> None:
    """Take the place of a call that has been timed already."""


@pytest.fixture
def cell(request: pytest.FixtureRequest, benchmark: Any, device: str, dtype: str) -> Any:
    """The timed call of a benchmark, on the device and in the dtype of its parametrization."""
    run = request.config.stash[RUN]
    on = run.devices[device]

    def hand_over(timing: rounds.Timing | None, call: Any) -> None:
        """Enter the rounds into pytest-benchmark, whose table, files and options go on from here.

        Its own single round, timed by the device's clock, opens the entry; the rounds that were
        measured take its place. It calls the operation only for --benchmark-cprofile.
        """
        if timing is None or not benchmark.enabled:
            benchmark.pedantic(call)
            return
        profiled = request.config.getoption("benchmark_cprofile")
        benchmark.pedantic(call if profiled else _nothing, iterations=timing.iterations)
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
        run.yardsticks,
        earlier,
        run.repeats_left > 0 and len(earlier) + 1 < ATTEMPTS,
        run.placement.lifted,
        run.data_root,
        run.download,
    )
    request.node.stash[CELL] = made
    yield made
    made.close()
    if benchmark.stats is None:
        benchmark.skipped = True  # it ended before it was timed, and its row says why


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn the end of a cell into its row, and what a backend refuses into a skip."""
    report = yield
    if not (isinstance(item, pytest.Function) and rows.is_cell(item)):
        return report
    run = item.config.stash[RUN]
    raised = call.excinfo
    if raised is None and call.when != "call":
        return report
    if raised is None:
        status, reason = rows.outcome(item)
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
        if status == "oom":
            gc.collect()
            run.devices[rows.given(item)["device"]].free_memory()
    made = rows.row(item, run, status, reason)
    fixture: Any = item.funcargs.get("benchmark")
    if fixture:
        fixture.extra_info |= extra_info(dataclasses.asdict(made))
    if run.writer and not run.broken:
        try:
            run.writer.append(made)
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
    frame = reader.read(run.writer.path)
    for notice in run.notices:
        terminalreporter.write_line(notice)
    terminalreporter.write_line(table.by_dtype(frame[frame.run_id == run.id]))
    terminalreporter.write_line("")
    for line in summary.lines(frame[frame.run_id == run.id]):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"{run.writer.rows} rows in {run.writer.path}")
