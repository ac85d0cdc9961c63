"""A pytest plugin that reports the progress of a run on standard error, for `bench run`.

Each line is `process.MARK` and a JSON object.
"""

import json
import os
import signal
import stat
import statistics
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest

from bench.launch.process import LEAVE_S, MARK, kill
from bench.plugin import revisits, rows
from bench.plugin.options import RUN, Run
from bench.report import reasons, units

_INPUT = pytest.StashKey[int]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Keep standard input, the launcher's pipe, before pytest puts another file in its place."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        early_config.stash[_INPUT] = os.dup(0)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Register the reporter."""
    config.pluginmanager.register(Reporter())


@dataclass(eq=False)  # pytest 8 keeps plugins in a set
class Reporter:
    """Writes to the standard error of the process, which pytest does not capture."""

    out: TextIO = field(default_factory=lambda: os.fdopen(os.dup(2), "w", encoding="utf-8"))
    done: int = 0
    launcher_gone: bool = False
    file: Path | None = None
    reported: list[str] = field(default_factory=list)
    ended: bool = False

    def send(self, **event: Any) -> None:
        """Write an event."""
        self.write(MARK + json.dumps(event))

    def write(self, line: str) -> None:
        """Write one line, unless the launcher has ended."""
        try:
            print(line, file=self.out, flush=True)
        except OSError:
            self.launcher_gone = True
            self.out = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Report the file of the rows."""
        run = session.config.stash[RUN]
        self.report(run)
        for line in run.preflight:
            self.send(note=line)

        def visiting(item: pytest.Function, left_s: float) -> None:
            self.send(cell=rows.identity(item, run), left_s=left_s)

        run.visiting = visiting
        if pipe := session.config.stash.get(_INPUT, None):
            threading.Thread(target=self.end_with_launcher, args=(pipe,), daemon=True).start()

    def report(self, run: Run) -> None:
        """Report the file of the rows, which another program may replace, and new notices."""
        if run.writer and run.writer.path != self.file:
            self.file = run.writer.path
            self.send(file=str(self.file))
        notices = [*run.notices, *(run.writer.notices if run.writer else ())]
        for line in notices:
            if line not in self.reported:
                self.write(line)
        self.reported = notices

    def end_with_launcher(self, pipe: int) -> None:
        """Wait until the launcher's end of the pipe closes; then end this process."""
        while os.read(pipe, 1):
            pass
        self.launcher_gone = True
        if not self.ended:
            # As Ctrl-C: the rows are on disk. A call that does not return is ended after a while.
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(LEAVE_S)
            kill(os.getpid())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Report the cell that starts; `total` grows when a cell is measured again."""
        self.report(item.config.stash[RUN])
        if rows.is_cell(item):
            cell = rows.identity(item, item.config.stash[RUN])
            self.send(cell=cell, done=self.done, total=item.session.testscollected, **_last(item))
        self.done += 1
        if self.launcher_gone:
            # Nobody reads the rest, and nobody would stop it.
            item.session.shouldstop = "the launcher of this run has ended; resume it with --resume"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """End the process after a cell that made its device fail: a fresh one continues."""
        report = yield
        if call.when == "call" and (lost := item.config.stash[RUN].lost):
            self.send(lost=[reasons.lost(name, fault) for name, fault in lost.items()])
            item.session.shouldstop = "a device fails"
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Report that the process ends normally."""
        self.ended = True
        self.report(session.config.stash[RUN])
        self.send(finished=int(session.exitstatus))


def _last(item: pytest.Item) -> dict[str, str]:
    """Return what the last call that was timed took, if there was one."""
    timed = item.config.stash[revisits.TIMED]
    if not timed:
        return {}
    return {"last": units.seconds(statistics.median(timed[-1].result.visits[-1].rounds_s))}
