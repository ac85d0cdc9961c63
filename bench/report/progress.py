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

    def _draw(
        self, task: TaskID, what: str, done: int, total: int, cell: dict[str, Any], last: str = ""
    ) -> None:
        words = [str(cell.get(key) or "") for key in ("device", "dtype", "benchmark", "params")]
        name = " ".join(filter(None, words)).replace(";", " ")[:60]
        if last:
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

    def __call__(self, **event: Any) -> None:
        """Show an event of `bench.launch.process`, or the start of a stage of so many runs."""
        match event:
            case {"message": line}:
                self._print(line)
            case {"stage": stage, "runs": runs}:
                self._stage, self._runs = stage, runs
                self._progress.reset(self._task, description=f"{stage} starting", total=None)
            case {"run": run, "left_s": left_s, "cell": cell}:
                again = f"again, {left_s:.0f} s left"
                what = f"{self._stage} {run} of {self._runs}, {again}" if self._runs > 1 else again
                done = self._progress.tasks[0].total or 0
                self._draw(self._task, what, int(done * run / self._runs), int(done), cell)
            case {"run": run, "done": done, "total": total, "cell": cell}:
                self._drawn = True
                alone = "cells" if self._stage == "run" else self._stage
                what = f"{self._stage} {run} of {self._runs}" if self._runs > 1 else alone
                done, total = (run - 1) * total + done, self._runs * total
                self._draw(self._task, what, done, total, cell, event.get("last", ""))


class FleetBars(_Bars):
    """A bar for every machine that measures, and a line when it has ended."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, **event: Any) -> None:
        """Show an event of `bench.launch.cluster`."""
        match event:
            case {"message": line}:
                self._print(f"{label}: {line}")
            case {"rows": rows, "reason": reason}:
                if label in self._tasks:
                    self._progress.remove_task(self._tasks.pop(label))
                self._print(f"{label}: {rows} rows" + (f"; {reason}" if reason else ""))
            case {"done": done, "total": total, "cell": cell}:
                if label not in self._tasks:
                    self._tasks[label] = self._progress.add_task(label, cell="")
                last = event.get("last", "")
                self._draw(self._tasks[label], label, done, total, cell, last)
