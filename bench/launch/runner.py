"""Run the suite in fresh processes, report their progress, and continue after a crash."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.launch import command
from bench.launch.command import HERE, CannotRun, Installation, values
from bench.records import reader, schema
from bench.records.lines import of_exit
from bench.records.schema import Row
from bench.records.writer import reopen

#: Starts each line by which a process reports its progress; all other lines are for the user.
MARK = "\x1e"
#: The exit status of a run that Ctrl-C has ended, as in a shell.
STOPPED = 130
#: What is reported where the options, the files or the profile leave nothing to time.
NO_CELL = "no cell matches these options and files; bench list shows which cells there are"
#: When this many cells have killed their process, the run stops.
MAX_DEATHS = 10
#: Seconds that a cell may take before its process is ended; --cell-timeout changes it.
CELL_LIMIT_S = 900.0
#: Seconds that an interrupted process has to write its last lines.
LEAVE_S = 10.0
#: Seconds that a process may take to end after its last cell, and the line if it takes longer.
END_S = 60.0
LEFT_OVER = "a benchmark left a thread or a process that did not end; it was killed"
#: Signals by which somebody ends a process from outside.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_FROM_OUTSIDE = {getattr(signal, name) for name in _NAMES if hasattr(signal, name)}


class Stopped(CannotRun):
    """Ctrl-C has ended the suite; the message says how to continue."""

    code = STOPPED


#: Receives the progress of a run as keywords: a ``message`` for the user, or the ``cell`` that run
#: number ``run`` starts, after ``done`` of ``total``, the last of which took ``last``. If a cell is
#: visited again, ``left_s`` seconds of budget are left.
Listener = Callable[..., object]


@dataclass
class ProcessReport:
    """What a process reported before it ended: its CSV, its last cell, lines for the user.

    `lost` are lines on devices that fail since an earlier cell of the process; `interrupted` says
    that Ctrl-C, or the caller, has stopped it; `finished` is the exit status that it announced.
    """

    file: Path | None = None
    cell: dict[str, Any] | None = None
    finished: int | None = None
    left_over: bool = False
    timed_out: bool = False
    interrupted: bool = False
    lost: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)


def _out_of_memory_kills() -> int:
    """Return how many processes Linux has killed since boot because memory ran out."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    counts = dict(line.split() for line in text.splitlines())
    return int(counts.get("oom_kill", 0))


def _event(text: str) -> dict[str, Any]:
    """Return what a process reports; nothing for what a benchmark has written after a mark."""
    with contextlib.suppress(ValueError):
        if isinstance(event := json.loads(text), dict):
            return event
    return {}


def _listen(lines: Iterable[str], report: ProcessReport, run: int, listener: Listener) -> None:
    """Read what a process writes until it ends; store it in `report` and notify `listener`."""
    for line in lines:
        # A library may have written before the mark, and not ended its line.
        text, mark, data = line.partition(MARK)
        if text.strip():
            report.lines.append(text.rstrip("\n"))
        event = _event(data) if mark else {}
        if file := event.pop("file", ""):
            report.file = Path(file)
        if "note" in event and run == 1:
            listener(message=event["note"])
        if "cell" in event:
            report.cell, report.since = event["cell"], time.monotonic()
            listener(run=run, **event)
        report.lost += event.get("lost", [])
        if "finished" in event:
            report.finished, report.since = event["finished"], time.monotonic()


def kill(pid: int) -> None:
    """Kill a process, its children, and the group that it leads: some lose their parent."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error):
                one.kill()
    with contextlib.suppress(OSError, AttributeError):  # Windows has no groups
        os.killpg(pid, signal.SIGKILL)


def _has_row(file: Path, cell: dict[str, Any]) -> bool:
    """Whether the file already has a row of this cell and run."""
    names = ["run_id", *schema.CELL]
    return bool((reader.read(file)[names] == [cell[name] for name in names]).all(axis=1).any())


def _failed(file: Path) -> bool:
    """Whether a cell of the last run in a file failed, no matter which process wrote its row."""
    rows = reader.read(file)
    last = rows[rows.run_id.isin(rows.run_id.iloc[-1:])]
    return bool(last.status.isin(schema.FAILED).any())


@dataclass(frozen=True)
class _Launcher:
    """Starts the processes of a run: with which arguments, where, until when, and who listens."""

    arguments: Sequence[str]
    listener: Listener
    place: Installation
    ends_at: float
    cell_limit_s: float
    stopped: Callable[[], bool]

    def process(self, csv_options: Sequence[str], run: int) -> tuple[int, ProcessReport, str]:
        """Run one process to its end; return its exit status, its report and its standard output.

        The process and its children are killed by `_kill_late`, when `listener` raises, and at a
        second Ctrl-C. At the first one the process is asked to end; it is in a group of its own, so
        that the terminal does not ask it as well.
        """
        report, ended = ProcessReport(), threading.Event()
        words = ["--benchmark-only", "-p", "bench.plugin.progress", *self.arguments, *csv_options]
        alone: dict[str, Any] = {} if sys.platform == "win32" else {"process_group": 0}
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
            subprocess.Popen(
                command.of(*words, place=self.place),
                env=self.place.environment(),
                # The process ends when this pipe does, which the system closes with the launcher.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                **alone,
            ) as process,
        ):
            assert process.stderr
            late = (process, report, ended)
            threading.Thread(target=self._kill_late, args=late, daemon=True).start()
            try:
                while True:
                    try:
                        _listen(process.stderr, report, run, self.listener)
                        code = process.wait()
                        break
                    except KeyboardInterrupt:
                        self._interrupt(process, report)
            except BaseException:
                kill(process.pid)
                raise
            finally:
                ended.set()
            output.seek(0)
            if report.left_over:
                self.listener(message=LEFT_OVER)
            if report.finished is not None and (report.left_over or code > max(pytest.ExitCode)):
                code = report.finished
            return code, report, output.read()

    def _kill_late(
        self, process: "subprocess.Popen[str]", report: ProcessReport, ended: threading.Event
    ) -> None:
        """Kill a process at `ends_at`, when a cell or its end takes too long, or after `stopped`.

        When it has ended, what a benchmark has left may still hold its pipe, and is killed too.
        """
        while True:
            gone, done = process.poll() is not None, report.finished is not None
            limit_s = END_S if done else self.cell_limit_s if report.cell else math.inf
            left = min(self.ends_at, report.since + limit_s) - time.monotonic()
            report.timed_out, quits = left <= 0 and not done, self.stopped()
            report.interrupted |= quits
            if ended.wait(0.0 if quits else max(0.0, min(left, 1.0))):
                return
            if left <= 0 or quits or gone:
                report.left_over = done
                kill(process.pid)
                return

    def _interrupt(self, process: "subprocess.Popen[str]", report: ProcessReport) -> None:
        """Ask a process to end at the first Ctrl-C, and kill it at the second."""
        if report.interrupted:
            kill(process.pid)
        elif report.cell is None:  # before the first cell there is nothing to keep
            kill(process.pid)
            self.listener(message="stopped before the first cell")
        else:
            process.send_signal(signal.SIGINT)
            self.listener(message="stopping after this call; Ctrl-C again stops at once")
        report.interrupted = True

    def run(self, csv_options: Sequence[str], run: int) -> tuple[int, Path | None]:
        """Run the suite once; start a new process after each cell that killed its process.

        `csv_options` are the options that name the CSV. Returns the exit status and the CSV.
        """
        file: Path | None = None
        deaths = 0
        while True:
            deaths += 1
            kills = _out_of_memory_kills()
            code, report, output = self.process(csv_options, run)
            file = report.file or file
            if report.timed_out and time.monotonic() >= self.ends_at:
                last = report.cell["benchmark"] if report.cell else "the start"
                raise CannotRun(f"the time limit was reached in {last}")
            if report.interrupted:
                return STOPPED, file
            for line in report.lines:
                self.listener(message=line)
            if report.lost and report.file and deaths < MAX_DEATHS:
                for line in report.lost:
                    self.listener(message=f"{line}; the run continues in a fresh process")
                csv_options = [f"--resume={report.file}"]
                continue
            nothing_left = code == pytest.ExitCode.NO_TESTS_COLLECTED
            if deaths > 1 and nothing_left:
                return 1, file  # the last cell killed its process
            if report.finished is not None or report.file is None or report.cell is None:
                complete = nothing_left and any(w.startswith("--resume=") for w in csv_options)
                if (code not in (0, 1, 2) or not file) and not report.lines and not complete:
                    shown = output.strip() or "the process ended before its first cell"
                    self.listener(message=NO_CELL if nothing_left else shown)
                return code or int(report.finished is None), file
            out_of_memory = _out_of_memory_kills() > kills
            killed = code == -getattr(signal, "SIGKILL", 9) and not out_of_memory
            if not report.timed_out and (killed or -code in _FROM_OUTSIDE):
                self.listener(message=f"killed from outside; continue with --resume {file}")
                return 2, file
            status, reason = "error", f"the process died in this cell: {of_exit(code)}"
            if report.timed_out:
                reason = f"no end within {self.cell_limit_s:g} s (--cell-timeout)"
            elif out_of_memory:
                what = "the host ran out of memory, and the system killed the process"
                status, reason = "oom", f"{what} in this cell"
            if not _has_row(report.file, report.cell):  # else it died in the cleanup after its row
                with contextlib.closing(reopen(report.file)) as writer:
                    writer.append(Row(status=status, reason=reason, **report.cell))
            if deaths == MAX_DEATHS:
                self.listener(
                    message=f"{deaths} cells killed their process; continue with --resume {file}"
                )
                return 1, file
            name = f"{report.cell['benchmark']} {report.cell['dtype']}"
            self.listener(message=f"{reason} ({name}); the run continues")
            csv_options = [f"--resume={report.file}"]


def _cell_limit(arguments: Sequence[str]) -> tuple[list[str], float]:
    """Take ``--cell-timeout`` out of the arguments; return the others and its seconds."""
    option = "--cell-timeout"
    given = values(arguments, option)
    if not given:
        return list(arguments), CELL_LIMIT_S
    try:
        limit_s = float(given[-1])
    except ValueError:
        limit_s = 0.0
    if not limit_s > 0:
        raise CannotRun(f"{option}: {given[-1]!r} is not a number of seconds; give one above 0")
    pairs = zip(["", *arguments], arguments, strict=False)
    rest = [w for before, w in pairs if option not in (before, w.partition("=")[0])]
    return rest, limit_s


def run(
    arguments: list[str],
    runs: int,
    output: Path | None,
    resume: Path | None,
    listener: Listener,
    place: Installation = HERE,
    limit_s: float = math.inf,
    append: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[int, Path | None]:
    """Run the suite `runs` times, each in a fresh process, into one file.

    `arguments` are for pytest. `output` must be a new file, unless the runs `append` to it. With
    `resume`, the runs in that file count: the last one is completed, then the missing ones follow.
    Returns the worst exit status of all runs, and the file. Ctrl-C ends them with `STOPPED`, and so
    does `stopped`, which another thread asks once a second.

    Raises CannotRun if `resume` is no result file, and after `limit_s` seconds.
    """
    ends_at = time.monotonic() + limit_s
    words, cell_limit_s = _cell_limit(arguments)
    launcher = _Launcher(words, listener, place, ends_at, cell_limit_s, stopped)
    first = 1
    csv_options = [f"--output={output}"] if output else []
    csv_options += ["--append"] if append else []
    if resume:
        try:
            first = max(1, reader.read(resume).run_id.nunique())
        except reader.BadFile as problem:
            raise CannotRun(f"--resume: {problem}") from problem
        csv_options = [f"--resume={resume}"]
    worst, file = 0, resume
    for number in range(first, max(runs, first) + 1):
        code, found = launcher.run(csv_options, number)
        code = code if code >= 0 else 128 - code  # ended by a signal: the exit status of a shell
        file = found or file
        if code == pytest.ExitCode.NO_TESTS_COLLECTED and resume and number == first:
            code = 0  # that run was complete
        if code == 0 and found and _failed(found):
            code = 1
        worst = max(worst, code)
        if code not in (0, 1):
            break
        csv_options = [f"--output={file}", "--append"]
    return worst, file
