"""The progress bar of `bench run` and `bench ab`."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """A progress bar on a terminal; elsewhere a line for each run.

    It is drawn when a cell begins, while the cell is still being set up: drawn by a clock, it
    would take a core from what is being timed.
    """

    def __init__(self, console: Console, runs: int = 1) -> None:
        self._runs = runs
        self._stage = "run"
        self._begun = False
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[cell]}"),
            console=console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("starting", total=None, cell="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.update(self._task, cell="", visible=self._begun)
        self._progress.refresh()
        self._progress.stop()

    def ends(self) -> None:
        """Draw the bar full."""
        self._progress.update(self._task, completed=self._progress.tasks[0].total)

    def stage(self, name: str, runs: int) -> None:
        """Begin anew, for `runs` processes."""
        self._stage, self._runs = name, runs
        self._progress.reset(self._task, description=f"{name} starting", total=None)

    def begins(self, run: int, done: int, total: int, cell: dict[str, Any]) -> None:
        """Draw the bar anew."""
        name = " ".join(filter(None, (cell[key] for key in ("device", "dtype", "benchmark"))))
        self._begun = True
        what = f"{self._stage} {run} of {self._runs}" if self._runs > 1 else "cells"
        self._progress.update(
            self._task,
            description=what,
            completed=(run - 1) * total + done,
            total=self._runs * total,
            cell=f"{name} {cell['params'].replace(';', ' ')}"[:60],
        )
        self._progress.refresh()

    def says(self, line: str) -> None:
        """Print above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
