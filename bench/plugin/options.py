"""What a run is asked for: the options, and the `Run` they make."""

import dataclasses
import pkgutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from bench import __version__
from bench.measure import clock, devices, disturbance, dtypes, environment, profiles
from bench.measure.placement import Placement
from bench.records import labels, reader, schema
from bench.records.writer import Writer, create, reopen


@dataclasses.dataclass
class Run:
    """What every cell of this process shares."""

    id: str
    started: datetime
    machine: str
    environment: environment.Environment
    devices: dict[str, devices.Device]
    dtypes: list[str]
    profile: profiles.Profile
    folder: Path
    tick_s: float = 0.0
    clock_cost_s: dict[str, float] = dataclasses.field(default_factory=dict)
    yardsticks: disturbance.Yardsticks | None = None
    repeats_left: int = 0
    placement: Placement = dataclasses.field(default_factory=Placement)
    finished: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    families: list[str] = dataclasses.field(default_factory=list)
    cells: set[tuple[str, ...]] | None = None
    output: Path | None = None
    goes_on: bool = False
    notices: list[str] = dataclasses.field(default_factory=list)
    data_root: Path | None = None
    download: bool = False
    writer: Writer | None = None
    broken: str = ""

    def open_writer(self) -> Writer:
        """Open the file of this run, or make it; CannotWrite where that is not possible."""
        if self.output is None:
            return create(self.folder, self.started)
        return reopen(self.output) if self.goes_on else Writer(self.output)


RUN = pytest.StashKey[Run]()
#: Families that start many processes, and have no place in every run.
ON_REQUEST = ("distributed",)


def add(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("bench", "torch-device-bench")
    names = "may be repeated or joined by commas"
    group.addoption("--device", action="append", metavar="NAME", help=f"device to time; {names}")
    group.addoption("--dtype", action="append", metavar="NAME", help=f"dtype to time; {names}")
    asked = f"{', '.join(ON_REQUEST)} only where asked for"
    group.addoption("--family", action="append", metavar="NAME", help=f"family; {asked}; {names}")
    group.addoption("--cells", metavar="FILE", help="time only the cells that this CSV names")
    group.addoption("--profile", default="default", help=f"one of {', '.join(profiles.PROFILES)}")
    group.addoption("--results", default="results", metavar="DIR", help="folder of result CSVs")
    group.addoption("--output", metavar="FILE", help="the result CSV, instead of one in --results")
    group.addoption("--append", action="store_true", help="add a run to the CSV of --output")
    group.addoption("--resume", metavar="FILE", help="go on with the run that FILE holds")
    group.addoption("--machine", metavar="LABEL", help="label of this machine in the results")
    group.addoption("--data-root", metavar="DIR", help="folder that holds FashionMNIST")
    group.addoption("--download", action="store_true", help="fetch FashionMNIST to --data-root")
    group.addoption("--threads", type=int, metavar="N", help="compute threads on the CPU")


def _names(given: list[str] | None) -> list[str]:
    """Return what `--device a,b --device c` asks for, each once."""
    split = (name.strip() for item in given or () for name in item.split(","))
    return list(dict.fromkeys(name for name in split if name))


def _usage(option: str, problem: str) -> pytest.UsageError:
    return pytest.UsageError(f"--{option}: {problem}")


def read(config: pytest.Config) -> Run:
    """Return the run the options ask for; UsageError, one line, where one of them is wrong."""
    try:
        profile = profiles.find(config.getoption("profile"))
    except ValueError as problem:
        raise _usage("profile", str(problem)) from None
    asked = _names(config.getoption("dtype"))
    for name in asked:
        if name not in dtypes.NAMES:
            known = ", ".join(dtypes.NAMES)
            raise _usage("dtype", f"unknown dtype {name!r}; known: {known}")
    # Given as a word, or left as it is: the host's clock of every device.
    now = pkgutil.resolve_name(str(config.getoption("benchmark_timer")))
    try:
        tick = clock.examine(now)
    except clock.BadClock as problem:
        name = getattr(now, "__qualname__", now)
        remedy = "choose one that always advances, such as time.perf_counter"
        raise _usage("benchmark-timer", f"{name} cannot time a call: {problem}; {remedy}") from None
    try:
        found = map(devices.find, _names(config.getoption("device")) or devices.names())
        # By the name in the rows: ``cpu:0`` is ``cpu``.
        chosen = {
            device.name: device
            if now is time.perf_counter
            else dataclasses.replace(device, now=now)
            for device in found
        }
    except devices.UnknownDevice as problem:
        raise _usage("device", str(problem)) from None
    count = config.getoption("threads")
    if count is not None and count < 1:
        raise _usage("threads", f"{count} is not a number of threads; give 1 or more")
    environment.set_threads(count)
    current = environment.current()
    machine = config.getoption("machine")
    if machine is None:
        accelerators = [device for device in map(devices.find, devices.names()) if device.model]
        machine = environment.machine_label(current, accelerators)
    elif not labels.is_label(machine):
        raise _usage(
            "machine", f"{machine!r} is no label; use letters, digits, '.', '_' and '-', 80 at most"
        )
    profiles.apply(profile, config)
    output, resumed = config.getoption("output"), config.getoption("resume")
    if output and resumed:
        raise _usage("output", f"--resume goes on in {resumed}; leave one of the two out")
    root = config.getoption("data_root")
    if config.getoption("download") and not root:
        raise _usage("download", "needs the folder to fetch to: --data-root DIR")
    if root and not config.getoption("download") and not Path(root).is_dir():
        raise _usage("data-root", f"{root} is no folder; make it, or fetch to it with --download")
    if config.getoption("append") and not output:
        raise _usage("append", "needs the file to add to: --output FILE")
    run = Run(
        id=uuid.uuid4().hex[:12],
        started=datetime.now(UTC),
        machine=machine,
        environment=current,
        devices=chosen,
        dtypes=asked,
        profile=profile,
        folder=Path(config.getoption("results")) / machine,
        families=_families(config),
        cells=_cells(config.getoption("cells")),
        output=Path(output) if output else None,
        data_root=Path(root) if root else None,
        download=config.getoption("download"),
        tick_s=tick.seconds,
    )
    if resumed:
        _resume(run, Path(resumed))
    elif config.getoption("append"):
        _append(run, Path(output))
    return run


def _families(config: pytest.Config) -> list[str]:
    """Return the families asked for; those there are have a folder with benchmarks."""
    asked = _names(config.getoption("family"))
    package = Path(__file__).parents[1] / "suite"
    known = sorted({path.parent.name for path in package.glob("*/bench_*.py")})
    for name in asked:
        if name not in known:
            raise _usage("family", f"unknown family {name!r}; known: {', '.join(known)}")
    return asked


def _cells(path: str | None) -> set[tuple[str, ...]] | None:
    """Return the cells that a file names; None where none is given."""
    try:
        return None if path is None else reader.cells(Path(path))
    except reader.BadFile as problem:
        raise _usage("cells", str(problem)) from None


def _stored(option: str, path: Path) -> pd.DataFrame:
    try:
        return reader.read(path)
    except reader.BadFile as problem:
        raise _usage(option, str(problem)) from None


def _append(run: Run, path: Path) -> None:
    """Let the rows of this run follow those of others in `path`."""
    rows = _stored("append", path)
    machines = set(rows.machine) - {run.machine}
    if machines:
        other = ", ".join(map(repr, sorted(machines)))
        raise _usage("append", f"{path} is of machine {other}, this is {run.machine}")
    run.output, run.goes_on = path, True


def _resume(run: Run, path: Path) -> None:
    """Take over the identity and the finished cells of the last run in `path`."""
    rows = _stored("resume", path)
    if rows.empty:  # killed before its first cell ended
        run.output, run.goes_on = path, True
        return
    if notice := rows.attrs["notice"]:
        run.notices.append(notice)
    last = rows[rows.run_id == rows.run_id.iloc[-1]]
    here = {"suite_version": __version__, **run.environment.columns()}
    for column, value in here.items():
        then = last[column].tolist()[0]
        if then != value:
            raise _usage(
                "resume", f"{path} has {column} {then!r}, this is {value!r}; start a new run"
            )
    run.id, run.machine = last.run_id.iloc[0], last.machine.iloc[0]
    run.output, run.goes_on = path, True
    run.started = datetime.fromisoformat(last.run_started.iloc[0])
    run.finished = set(last[list(schema.CELL)].itertuples(index=False, name=None))
