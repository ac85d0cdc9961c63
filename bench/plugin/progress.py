"""A pytest plugin that tells `bench run`, line by line on standard error, where the run is.

Each line is a JSON object behind `launch.MARK`.
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
    """Begin to tell."""
    config.pluginmanager.register(Teller())


@dataclass
class Teller:
    """Writes past pytest's capture, to what standard error was when the plugin was loaded."""

    out: TextIO = field(default_factory=lambda: os.fdopen(os.dup(2), "w", encoding="utf-8"))
    done: int = 0

    gone: bool = False

    def tell(self, **what: Any) -> None:
        """Write one line, unless the launcher has gone."""
        try:
            print(MARK + json.dumps(what), file=self.out, flush=True)
        except OSError:
            self.gone = True
            self.out = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell which file the rows go to."""
        writer = session.config.stash[RUN].writer
        if writer:
            self.tell(file=str(writer.path))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Tell which cell begins; the number of all grows with those that are measured again."""
        if rows.is_cell(item):
            assert isinstance(item, pytest.Function)
            known = rows.identity(item, item.config.stash[RUN])
            total = item.session.testscollected
            self.tell(begins=known, done=self.done, total=total)
        self.done += 1
        if self.gone:
            # Nobody waits for the rest, and nobody would end it.
            item.session.shouldstop = "what launched this run has gone; --resume goes on"

    def pytest_sessionfinish(self) -> None:
        """Tell that the process ends in order."""
        self.tell(finished=True)
