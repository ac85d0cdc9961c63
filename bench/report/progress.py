"""The progress bars of `bench run`, `bench ab` and `bench fleet`."""

from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.report import fit


class _Bars:
    """Bars that are drawn when a cell starts, while it is being set up.

    A bar that a timer redraws would take CPU time from the code that is being timed.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[cell]}", markup=False),
            console=console,
            auto_refresh=False,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.refresh()
        self._progress.stop()

    def _draw(self, task: TaskID, what: str, done: int, total: int, cell: dict[str, Any]) -> None:
        words = [str(cell.get(key) or "") for key in ("device", "dtype", "benchmark", "params")]
        name = " ".join(filter(None, words)).replace(";", " ")[:60]
        if last := cell.get("last"):
            name = f"{last}; now {name}"
        self._progress.update(task, description=what, completed=done, total=total, cell=name)
        self._progress.refresh()

    def _print(self, line: str) -> None:
        text = fit.fill(line, self._progress.console.width)
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class RunBar(_Bars):
    """The bar of one machine: `runs` processes, or one stage of them after the other."""

    def __init__(self, console: Console, runs: int = 1) -> None:
        super().__init__(console)
        self._runs = runs
        self._stage = "run"
        self._drawn = False
        self._task = self._progress.add_task("starting", total=None, cell="")

    def __exit__(self, *_: object) -> None:
        self._progress.update(self._task, cell="", visible=self._drawn)
        if self._drawn:
            super().__exit__()
        else:  # without the blank line after a bar
            self._progress.live.stop()

    def complete(self) -> None:
        """Show the bar as complete."""
        self._progress.update(self._task, completed=self._progress.tasks[0].total)

    def stage_started(self, name: str, runs: int) -> None:
        """Restart the bar for a stage of `runs` processes."""
        self._stage, self._runs = name, runs
        self._progress.reset(self._task, description=f"{name} starting", total=None)

    def cell_started(self, run: int, done: int, total: int, cell: dict[str, Any]) -> None:
        """Update the bar: `done` of `total` cells of process number `run` have ended."""
        self._drawn = True
        alone = "cells" if self._stage == "run" else self._stage
        what = f"{self._stage} {run} of {self._runs}" if self._runs > 1 else alone
        self._draw(self._task, what, (run - 1) * total + done, self._runs * total, cell)

    def visited_again(self, run: int, left_s: float, cell: dict[str, Any]) -> None:
        """Show that all cells are done, and for how long they are visited again."""
        again = f"again, {left_s:.0f} s left"
        what = f"{self._stage} {run} of {self._runs}, {again}" if self._runs > 1 else again
        done = self._progress.tasks[0].total or 0
        self._draw(self._task, what, int(done * run / self._runs), int(done), cell)

    def message(self, line: str) -> None:
        """Print a line above the bar."""
        self._print(line)


class FleetBars(_Bars):
    """A bar for every machine that measures, and a line when it has ended."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._tasks: dict[str, TaskID] = {}

    def cell_started(
        self, label: str, run: int, done: int, total: int, cell: dict[str, Any]
    ) -> None:
        """Update the bar of machine `label`."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, cell="")
        self._draw(self._tasks[label], label, done, total, cell)

    def message(self, label: str, line: str) -> None:
        """Print a line of machine `label` above the bars."""
        self._print(f"{label}: {line}")

    def machine_ended(self, label: str, rows: int, reason: str) -> None:
        """Remove the bar of a machine; print how many rows it gave, and what went wrong."""
        if label in self._tasks:
            self._progress.remove_task(self._tasks.pop(label))
        self.message(label, f"{rows} rows" + (f"; {reason}" if reason else ""))
