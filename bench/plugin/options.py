"""The options of a run, and the `Run` that they make."""

import contextlib
import dataclasses
import math
import pkgutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from bench import __version__
from bench.measure import clock, devices, dtypes, environment, profiles
from bench.measure.kernels import ReferenceKernels
from bench.measure.placement import Placement
from bench.plugin import plans, unfinished
from bench.records import choices, labels, reader, schema
from bench.records.lines import has_breaks
from bench.records.schema import CellKey
from bench.records.writer import Writer, create, reopen
from bench.report import reasons
from bench.suite.model import named


@dataclasses.dataclass
class Run:
    """What all cells of this process share."""

    id: str
    started: datetime
    machine: str
    environment: environment.Environment
    devices: dict[str, devices.Device]
    dtypes: list[str]
    profile: profiles.Profile
    profile_name: str
    #: Opens or creates the file of this run; CannotWrite if that is not possible.
    open_writer: Callable[[], Writer]
    tick_s: float = 0.0
    clock_cost_s: dict[str, float] = dataclasses.field(default_factory=dict)
    kernels: ReferenceKernels = dataclasses.field(default_factory=ReferenceKernels)
    budget_s: float | None = None
    #: Is called with each cell that is visited again and the seconds of budget that are left.
    visiting: Callable[[pytest.Function, float], None] = lambda item, left_s: None
    placement: Placement = dataclasses.field(default_factory=Placement)
    finished: set[CellKey] = dataclasses.field(default_factory=set)
    families: list[str] = dataclasses.field(default_factory=list)
    cells: set[CellKey] | None = None
    notices: list[str] = dataclasses.field(default_factory=list)
    preflight: list[str] = dataclasses.field(default_factory=list)
    data_root: Path | None = None
    download: bool = False
    writer: Writer | None = None
    broken: str = ""
    #: By its id in pytest, the first file of each cell of this process.
    expected: dict[str, Path] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)
    lost: dict[str, str] = dataclasses.field(default_factory=dict)

    def budget_of(self, cells: int) -> float:
        """Return the seconds of all visits to so many cells."""
        return self.profile.budget_s(cells) if self.budget_s is None else self.budget_s

    def busy_budget_of(self, cells: int) -> float:
        """Return the same while many of the cells are unstable."""
        times = self.profile.busy_times if self.budget_s is None else 1.0
        return times * self.budget_of(cells)


RUN = pytest.StashKey[Run]()
#: The name of the plugin that reports to `bench run`.
REPORTER = "bench.plugin.progress"
SUITE = Path(__file__).parents[1] / "suite"
#: Families that start many processes, or need a model of the user: timed only on request.
ON_REQUEST = ("distributed", "model")


def add(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("bench", "torch-device-bench")
    names = "may be repeated or joined by commas"
    group.addoption("--device", action="append", metavar="NAME", help=f"device to time; {names}")
    group.addoption("--dtype", action="append", metavar="NAME", help=f"dtype to time; {names}")
    family = f"family to time ({', '.join(ON_REQUEST)} only on request); {names}"
    group.addoption("--family", action="append", metavar="NAME", help=family)
    group.addoption("--cells", metavar="FILE", help="time only the cells in this CSV")
    group.addoption("--profile", metavar="NAME", help=", ".join(profiles.PROFILES))
    group.addoption("--results", default="results", metavar="DIR", help="folder of result CSVs")
    group.addoption(
        "--output", metavar="FILE", help="result CSV, instead of a new one in --results"
    )
    group.addoption("--append", action="store_true", help="add a run to the CSV of --output")
    resume = "complete the last run in FILE: its cells and profile, unless options select others"
    group.addoption("--resume", metavar="FILE", help=resume)
    group.addoption("--machine", metavar="LABEL", help="label of this machine in the results")
    group.addoption("--data-root", metavar="DIR", help="folder that holds FashionMNIST")
    group.addoption("--download", action="store_true", help="download FashionMNIST to --data-root")
    group.addoption(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="time of the run in seconds: cells are visited again until it is spent "
        "(default: 0.35 per cell, 120 for all cells of profile default; 50 for quick, and up to "
        "150 while many of its cells are unstable)",
    )
    group.addoption("--threads", type=int, metavar="N", help="compute threads on the CPU")
    model = "time this model of yours (family model), as bench model does"
    group.addoption("--model", metavar="MODULE:NAME", help=model)
    shape = "shape of an input of --model, such as 64x3x224x224 or 8x128:int64; may be repeated"
    group.addoption("--input", action="append", metavar="SHAPE", help=shape)


def check_known(parser: pytest.Parser, args: list[str]) -> None:
    """Raise UsageError, one line, for an option that neither pytest nor a plugin has."""
    if unknown := parser.parse_known_and_unknown_args(args)[1]:
        raise pytest.UsageError(
            f"unknown option {unknown[0]}; bench run --help and pytest --help list the options"
        )


def _names(given: list[str] | None) -> list[str]:
    """Return the names in `--device a,b --device c`, each once."""
    split = (name.strip() for item in given or () for name in item.split(","))
    return list(dict.fromkeys(name for name in split if name))


@contextlib.contextmanager
def _naming(option: str) -> Iterator[None]:
    """Turn a ValueError, whose message is one line, into a UsageError that names an option."""
    try:
        yield
    except ValueError as problem:
        raise pytest.UsageError(f"--{option}: {problem}") from None


def _faults(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Yield the options that are wrong by themselves, and in one line what is wrong with each."""
    of = config.getoption
    for name in ("output", "resume", "cells", "results", "data_root"):
        if has_breaks(of(name) or ""):
            yield (
                name.replace("_", "-"),
                f"{of(name)!r} is a name with control characters; rename it",
            )
    yield "profile", choices.unknown([of("profile") or "default"], profiles.PROFILES)
    yield "dtype", choices.unknown(_names(of("dtype")), dtypes.NAMES)
    if of("threads") is not None and of("threads") < 1:
        yield "threads", f"{of('threads')} is not a number of threads; give 1 or more"
    if of("budget") is not None and not 0 <= of("budget") < math.inf:
        yield "budget", f"{of('budget'):g} is not a time in seconds; give 0 or more"
    if of("machine") is not None and not labels.is_label(of("machine")):
        use = "use letters, digits, '.', '_' and '-', 80 at most"
        yield "machine", f"{of('machine')!r} is not a label; {use}"
    if of("output") and of("resume"):
        yield "output", f"--resume continues {of('resume')}; give only one of the two"
    root, download = of("data_root"), of("download")
    if download and not root:
        yield "download", "needs a folder to download to: --data-root DIR"
    if root and not download and not Path(root).is_dir():
        yield "data-root", f"{root} is not a folder; create it, or use --download"
    if "model" in _names(of("family")) and not of("model"):
        yield "family", "model needs a model of yours: bench model MODULE:NAME"
    if of("input") and not of("model"):
        yield "input", "is for a model of yours: give --model MODULE:NAME"
    if of("append") and not of("output"):
        yield "append", "needs a file to add to: --output FILE"


def read(config: pytest.Config) -> Run:
    """Return the run of these options; UsageError with one line if an option is wrong.

    This also sets the compute threads, and the options of pytest-benchmark.
    """
    for option, fault in _faults(config):
        if fault:
            raise pytest.UsageError(f"--{option}: {fault}")
    of = config.getoption
    output, resumed, root = of("output"), of("resume"), of("data_root")
    kept = unfinished.read(Path(resumed)) if resumed else None
    name = of("profile") or (kept.profile if kept else "default")
    # The host clock of every device: pytest-benchmark's default, or the name of another timer.
    now = pkgutil.resolve_name(str(of("benchmark_timer")))
    tick = _tick_s(now)
    chosen, notices = _devices(_names(of("device")), now)
    environment.set_threads(of("threads"))
    plans.set_options(profiles.PROFILES[name], config)
    current = environment.current()
    machine = of("machine") or environment.machine_label(current, devices.accelerators())
    started = datetime.now(UTC)
    folder = Path(of("results")) / machine
    run = Run(
        id=uuid.uuid4().hex[:12],
        started=started,
        machine=machine,
        environment=current,
        devices=chosen,
        dtypes=_names(of("dtype")),
        profile=profiles.PROFILES[name],
        profile_name=name,
        open_writer=partial(Writer, Path(output)) if output else partial(create, folder, started),
        families=_names(of("family")),
        cells=_cells(of("cells")),
        data_root=Path(root) if root else None,
        download=of("download"),
        tick_s=tick,
        budget_s=of("budget"),
        notices=notices,
    )
    if model := of("model"):
        with _naming("model"):
            named.load(model, of("input") or [])
        run.families = run.families or ["model"]
    if resumed:
        _resume(run, Path(resumed), of("machine"))
        selected = any(map(of, ("device", "dtype", "family", "cells")))
        if kept and not selected and (not run.finished or run.id == kept.run_id):
            run.cells = set(kept.cells)
            run.notices.append(
                f"continues with the {len(kept.cells):,} cells of the interrupted run, "
                f"profile {name}"
            )
    elif of("append"):
        _append(run, Path(output))
    return run


def _tick_s(now: Callable[[], float]) -> float:
    """Return the tick of a clock in seconds; UsageError if it cannot time a call."""
    try:
        return clock.examine(now)
    except clock.BadClock as problem:
        name = getattr(now, "__qualname__", now)
        remedy = "choose one that always advances, such as time.perf_counter"
        fault = f"{name} cannot time a call: {problem}; {remedy}"
        raise pytest.UsageError(f"--benchmark-timer: {fault}") from None


def _devices(
    asked: list[str], now: Callable[[], float]
) -> tuple[dict[str, devices.Device], list[str]]:
    """Return the devices to time, by name, and a line on each that cannot be used.

    `now` is the clock of the host. UsageError if an `asked` one is unknown or cannot be used.
    """
    chosen, notices = {}, []
    for name in asked or devices.names():
        with _naming("device"):
            found = devices.find(name)
            if fault := found.fault():
                line = reasons.unusable(found.name, fault)
                if asked:
                    raise ValueError(line)
                notices.append(line)
                continue
        # By the name in the rows, where ``cpu:0`` is ``cpu``.
        other = now is not time.perf_counter
        chosen[found.name] = dataclasses.replace(found, now=now) if other else found
    return chosen, notices


def check_families(run: Run, collected: Iterable[str]) -> None:
    """Raise UsageError if --family names neither a family of the suite nor a collected one."""
    known = sorted({path.parent.name for path in SUITE.glob("*/bench_*.py")}.union(collected))
    if fault := choices.unknown(run.families, known):
        raise pytest.UsageError(f"--family: {fault}")


def _cells(path: str | None) -> set[CellKey] | None:
    """Return the cells in a file; None without a file."""
    with _naming("cells"):
        return None if path is None else reader.cells(Path(path))


@_naming("append")
def _append(run: Run, path: Path) -> None:
    """Append the rows of this run to those in `path`."""
    if machines := set(reader.read(path).machine) - {run.machine}:
        other = ", ".join(map(repr, sorted(machines)))
        raise ValueError(
            f"{path} is of machine {other}, this one is {run.machine}; give another file"
        )
    run.open_writer = partial(reopen, path)


@_naming("resume")
def _resume(run: Run, path: Path, machine: str | None) -> None:
    """Take the identity and the finished cells of the last run in `path`.

    ValueError if it has another environment, another device, or not the label `machine`.
    """
    size = path.stat().st_size if path.exists() else None
    rows = reader.read(path)
    run.open_writer = partial(reopen, path, size)
    if rows.empty:  # killed before its first cell ended
        return
    if notice := rows.attrs["notice"]:
        run.notices.append(notice)
    last = rows[rows.run_id == rows.run_id.iloc[-1]]
    here = {"suite_version": __version__, **run.environment.columns()}
    seen = {column: last[column].tolist()[0] for column in (*here, "machine")}
    if machine:
        here["machine"] = machine
    for name, known in zip(last.device, last.device_name, strict=True):
        if device := run.devices.get(name):
            seen[name], here[name] = known, device.model or run.environment.cpu
    for column, value in here.items():
        then = seen[column]
        if then != value:
            raise ValueError(
                f"{path} has {column} {then!r}, this process {value!r}; start a new run"
            )
    run.id, run.machine = last.run_id.iloc[0], last.machine.iloc[0]
    run.started = datetime.fromisoformat(last.run_started.iloc[0])
    run.finished = set(schema.cell_keys(last))
