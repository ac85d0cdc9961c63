"""A pytest plugin that reports the progress of a run on standard error, for `bench run`.

Each line is `runner.MARK` and a JSON object.
"""

import json
import os
from dataclasses import dataclass, field
from typing import Any, TextIO

import pytest

from bench.launch.runner import MARK
from bench.plugin import rows
from bench.plugin.options import RUN


def pytest_configure(config: pytest.Config) -> None:
    """Register the reporter."""
    config.pluginmanager.register(Reporter())


@dataclass
class Reporter:
    """Writes to the standard error of the process, which pytest does not capture."""

    out: TextIO = field(default_factory=lambda: os.fdopen(os.dup(2), "w", encoding="utf-8"))
    done: int = 0
    launcher_gone: bool = False

    def send(self, **event: Any) -> None:
        """Write one line, unless the launcher has ended."""
        try:
            print(MARK + json.dumps(event), file=self.out, flush=True)
        except OSError:
            self.launcher_gone = True
            self.out = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Report the file of the rows."""
        writer = session.config.stash[RUN].writer
        if writer:
            self.send(file=str(writer.path))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Report the cell that starts; `total` grows when a cell is measured again."""
        if rows.is_cell(item):
            cell = rows.identity(item, item.config.stash[RUN])
            self.send(cell=cell, done=self.done, total=item.session.testscollected)
        self.done += 1
        if self.launcher_gone:
            # Nobody reads the rest, and nobody would stop it.
            item.session.shouldstop = "the launcher of this run has ended; resume it with --resume"

    def pytest_sessionfinish(self) -> None:
        """Report that the process ends normally."""
        self.send(finished=True)
