"""Run the suite in fresh processes, show how far they are, and outlive their deaths."""

import contextlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from bench.records import reader, schema
from bench.records.schema import Row
from bench.records.writer import reopen

PACKAGE = Path(__file__).parents[1]
#: Begins a line in which a process tells where it is; the other lines are for the user.
MARK = "\x1e"
#: A machine on which more cells than this kill their process is not fit to go on with.
MAX_DEATHS = 10


class CannotRun(Exception):
    """The suite cannot be run as asked; the message is one line for the user."""


@dataclass(frozen=True)
class Place:
    """The Python that runs the suite, where the suite lies, and environment variables besides."""

    python: str = sys.executable
    package: Path = PACKAGE
    env: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return all environment variables of a process there."""
        return {**os.environ, **self.env}


#: This Python, this suite.
HERE = Place()


def command(*words: str, place: Place = HERE) -> list[str]:
    """The words that run pytest on the suite, wherever it is installed and whatever lies around."""
    settings = ["-c", str(place.package / "plugin" / "suite.ini")]
    settings += ["--rootdir", str(place.package.parent), "-p", "bench.plugin"]
    # Another suite is found by its PYTHONPATH, before what the folder one is in holds. So is this
    # one where it is installed and that folder is a checkout, as in a workflow after pip install.
    python = [place.python]
    if place.package != PACKAGE or _shadowed(place.package):
        python.append("-P")
    return [*python, "-m", "pytest", *settings, *map(str, _folders(place.package, words)), *words]


def _shadowed(package: Path) -> bool:
    """Whether the folder one is in holds another package of the same name."""
    near = Path.cwd() / package.name
    return near.is_dir() and not near.samefile(package)


def _given(words: Sequence[str], option: str) -> list[str]:
    """Return the values of an option, as ``--option=value`` or in two words."""
    pairs = itertools.pairwise([*words, ""])
    joined = [(word.partition("=") if "=" in word else (word, "", after)) for word, after in pairs]
    return [value for name, _, value in joined if name == option]


def _folders(package: Path, words: Sequence[str]) -> list[Path]:
    """Return where the families that `words` ask for are: the others need not be collected."""
    asked = [names.split(",") for names in _given(words, "--family")]
    named = _given(words, "--cells")
    if named:  # the last one counts, and wins over families
        try:
            asked = [sorted({cell[0] for cell in reader.cells(Path(named[-1]))})]
        except reader.BadFile:
            asked = []  # the suite says what is wrong with it
    folders = [package / "suite" / name.strip() for names in asked for name in names]
    # An unknown one is refused by the suite, which lists those it knows.
    return (
        folders if folders and all(folder.is_dir() for folder in folders) else [package / "suite"]
    )


class Watcher(Protocol):
    """Is told what a run does."""

    def begins(self, run: int, done: int, total: int, cell: dict[str, Any]) -> None:
        """A cell of run number `run` begins, after `done` of `total`."""

    def says(self, line: str) -> None:
        """A line for the user."""


@dataclass
class Told:
    """What a process has told of itself before it ended."""

    file: Path | None = None
    cell: dict[str, Any] | None = None
    finished: bool = False
    timed_out: bool = False
    others: list[str] = field(default_factory=list)


def _out_of_memory_kills() -> int:
    """How many processes Linux has killed so far because memory ran out."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    counts = dict(line.split() for line in text.splitlines())
    return int(counts.get("oom_kill", 0))


def _listen(lines: Iterable[str], told: Told, run: int, watcher: Watcher) -> None:
    for line in lines:
        if not line.startswith(MARK):
            told.others.append(line.rstrip("\n"))
            continue
        what = json.loads(line.removeprefix(MARK))
        if "file" in what:
            told.file = Path(what["file"])
        if "begins" in what:
            told.cell = what["begins"]
            watcher.begins(run, what["done"], what["total"], what["begins"])
        told.finished |= "finished" in what


def _died(code: int, killed: bool) -> tuple[str, str]:
    """Return status and reason of the cell in which a process died with exit status `code`."""
    if killed:
        return "oom", "the host ran out of memory, and the system killed the process in this cell"
    try:
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    except ValueError:
        name = f"signal {-code}"
    return "error", f"the process died in this cell: {name}"


def _end(pid: int) -> None:
    """Kill a process and those it has started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error):
                one.kill()


def _process(
    words: Sequence[str], run: int, watcher: Watcher, place: Place, limit_s: float
) -> tuple[int, Told, str]:
    """Run one process to its end; return its exit status, what it told, and its own output.

    After `limit_s` it is killed, with all that it started; so it is where `watcher` raises.
    """
    told = Told()
    ended = threading.Event()

    def watch(pid: int) -> None:
        if not ended.wait(limit_s):
            told.timed_out = True
            _end(pid)

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command("--benchmark-only", "-p", "bench.plugin.progress", *words, place=place),
            env=place.environment(),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stderr
        if math.isfinite(limit_s):
            threading.Thread(target=watch, args=(process.pid,), daemon=True).start()
        try:
            while True:
                try:
                    _listen(process.stderr, told, run, watcher)
                    code = process.wait()
                    break
                except KeyboardInterrupt:
                    # The process got the same signal and ends by itself, with its rows on disk.
                    continue
        except BaseException:
            _end(process.pid)
            raise
        finally:
            ended.set()
        output.seek(0)
        return code, told, output.read()


def _has_row(file: Path, cell: dict[str, Any]) -> bool:
    """Whether the run of `cell` has a row of it already."""
    names = ["run_id", *schema.CELL]
    return bool((reader.read(file)[names] == [cell[name] for name in names]).all(axis=1).any())


def _one_run(
    words: list[str],
    goes_on: list[str],
    run: int,
    watcher: Watcher,
    place: Place,
    ends_at: float,
) -> tuple[int, Path | None]:
    """Run the suite once, in as many processes as its deaths make necessary."""
    file: Path | None = None
    deaths = 0
    while True:
        kills = _out_of_memory_kills()
        limit_s = max(0.0, ends_at - time.monotonic())
        code, told, output = _process([*words, *goes_on], run, watcher, place, limit_s)
        if told.timed_out:
            raise CannotRun(
                f"time is up; {told.cell['benchmark'] if told.cell else 'start'} was on"
            )
        file = told.file or file
        for line in told.others:
            watcher.says(line)
        if deaths and code == pytest.ExitCode.NO_TESTS_COLLECTED:
            return 1, file  # it was the last cell that killed its process
        if told.finished or told.file is None or told.cell is None:
            # A run that --resume finds complete has nothing to tell.
            nothing_left = code == pytest.ExitCode.NO_TESTS_COLLECTED and "--resume" in str(goes_on)
            if code not in (0, 1, 2) and not told.others and not nothing_left:
                watcher.says(output)
            return code, file
        killed = _out_of_memory_kills() > kills
        if code == -signal.SIGTERM or (code == -getattr(signal, "SIGKILL", 9) and not killed):
            watcher.says(f"killed from outside; go on with --resume {file}")
            return 2, file
        status, reason = _died(code, killed)
        if not _has_row(told.file, told.cell):  # else it died after its row, while it cleared up
            writer = reopen(told.file)
            writer.append(Row(status=status, reason=reason, **told.cell))
            writer.close()
        deaths += 1
        watcher.says(f"{reason} ({told.cell['benchmark']} {told.cell['dtype']}); going on")
        if deaths == MAX_DEATHS:
            watcher.says(f"{deaths} cells killed their process; go on with --resume {file}")
            return 1, file
        goes_on = [f"--resume={told.file}"]


def run(
    words: list[str],
    runs: int,
    output: Path | None,
    resume: Path | None,
    watcher: Watcher,
    place: Place = HERE,
    limit_s: float = math.inf,
    append: bool = False,
) -> tuple[int, Path | None]:
    """Run the suite `runs` times, each in a fresh process, into one file.

    `words` are passed to pytest. `output` must be a new file, unless the runs are to `append` to
    it. With `resume`, the runs that file holds count, the last of them
    is gone on with, and then the missing ones follow. Returns the exit status (the worst of all
    runs) and the file.

    Raises CannotRun where `resume` is no result file, and after `limit_s`, when all is ended.
    """
    ends_at = time.monotonic() + limit_s
    first = 1
    goes_on = [f"--output={output}"] if output else []
    goes_on += ["--append"] if append else []
    if resume:
        try:
            first = max(1, reader.read(resume).run_id.nunique())
        except reader.BadFile as problem:
            raise CannotRun(f"--resume: {problem}") from problem
        goes_on = [f"--resume={resume}"]
    worst, file = 0, resume
    for number in range(first, max(runs, first) + 1):
        code, found = _one_run(words, goes_on, number, watcher, place, ends_at)
        code = code if code >= 0 else 128 - code  # ended by a signal, as a shell says it
        file = found or file
        if code == pytest.ExitCode.NO_TESTS_COLLECTED and resume and number == first:
            code = 0  # that run was complete
        worst = max(worst, code)
        if code not in (0, 1):
            break
        goes_on = [f"--output={file}", "--append"]
    return worst, file
