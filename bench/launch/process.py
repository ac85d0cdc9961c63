"""Run one process of the suite to its end, and listen to its progress."""

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
from bench.launch.command import Installation

#: Starts each line by which a process reports its progress; all other lines are for the user.
MARK = "\x1e"
#: Seconds that an interrupted process has to write its last lines.
LEAVE_S = 10.0
#: Seconds that a process may take to end after its last cell, and the line if it takes longer.
END_S = 60.0
LEFT_OVER = "a benchmark left a thread or a process that did not end; it was killed"
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


@dataclass(frozen=True)
class Launcher:
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
