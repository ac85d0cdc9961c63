"""What a run is asked for: the options, and the `Run` they make."""

import dataclasses
import pkgutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import __version__
from bench.measure import devices, dtypes, environment, profiles, stability, threads
from bench.records import reader, schema
from bench.records.writer import Writer


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
    clock_cost_s: dict[str, float] = dataclasses.field(default_factory=dict)
    yardstick: stability.Yardstick | None = None
    repeats_left: int = 0
    placement: threads.Placement = dataclasses.field(default_factory=threads.Placement)
    finished: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    resumed: Path | None = None
    writer: Writer | None = None
    broken: str = ""


def add(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("bench", "torch-device-bench")
    names = "may be repeated or joined by commas"
    group.addoption("--device", action="append", metavar="NAME", help=f"device to time; {names}")
    group.addoption("--dtype", action="append", metavar="NAME", help=f"dtype to time; {names}")
    group.addoption("--profile", default="default", help=f"one of {', '.join(profiles.PROFILES)}")
    group.addoption("--results", default="results", metavar="DIR", help="folder of result CSVs")
    group.addoption("--resume", metavar="FILE", help="go on with the run that FILE holds")
    group.addoption("--machine", metavar="LABEL", help="label of this machine in the results")
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
        chosen = {
            name: dataclasses.replace(devices.find(name), now=now)
            if now is not time.perf_counter
            else devices.find(name)
            for name in _names(config.getoption("device")) or devices.names()
        }
    except devices.UnknownDevice as problem:
        raise _usage("device", str(problem)) from None
    count = config.getoption("threads")
    if count is not None:
        if count < 1:
            raise _usage("threads", f"{count} is not a number of threads; give 1 or more")
        environment.set_threads(count)
    current = environment.current()
    machine = config.getoption("machine")
    if machine is None:
        accelerators = [device for device in map(devices.find, devices.names()) if device.model]
        machine = environment.machine_label(current, accelerators)
    elif not environment.is_label(machine):
        raise _usage(
            "machine", f"{machine!r} is no label; use letters, digits, '.', '_' and '-', 80 at most"
        )
    profiles.apply(profile, config)
    resumed = config.getoption("resume")
    run = Run(
        id=uuid.uuid4().hex[:12],
        started=datetime.now(UTC),
        machine=machine,
        environment=current,
        devices=chosen,
        dtypes=asked,
        profile=profile,
        folder=Path(config.getoption("results")) / machine,
    )
    if resumed:
        _resume(run, Path(resumed))
    return run


def _resume(run: Run, path: Path) -> None:
    """Take over the identity and the finished cells of the last run in `path`."""
    try:
        rows = reader.read(path)
    except reader.BadFile as problem:
        raise _usage("resume", str(problem)) from None
    if rows.empty:
        raise _usage("resume", f"{path} holds no row; start a new run")
    last = rows[rows.run_id == rows.run_id.iloc[-1]]
    here = {"suite_version": __version__, **run.environment.columns()}
    for column, value in here.items():
        then = last[column].iloc[0]
        if then != value:
            raise _usage(
                "resume", f"{path} has {column} {then!r}, this is {value!r}; start a new run"
            )
    run.id, run.machine, run.resumed = last.run_id.iloc[0], last.machine.iloc[0], path
    run.started = datetime.fromisoformat(last.run_started.iloc[0])
    run.finished = set(last[list(schema.CELL)].itertuples(index=False, name=None))
