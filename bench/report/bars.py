"""The progress bars of `bench fleet`: one a machine."""

from typing import Any, Protocol

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


class Ended(Protocol):
    """How a machine ended."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def reason(self) -> str:
        """What went wrong, or nothing."""

    @property
    def rows(self) -> int:
        """How many rows came from it."""


class Bars:
    """A bar for every machine that has begun; elsewhere than on a terminal, a line at its end."""

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
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.refresh()
        self._progress.stop()

    def begins(self, label: str, run: int, done: int, total: int, cell: dict[str, Any]) -> None:
        """Draw the bar of a machine anew."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, cell="")
        name = " ".join(str(cell.get(key, "")) for key in ("device", "dtype", "benchmark"))
        self._progress.update(self._tasks[label], completed=done, total=total, cell=name[:50])
        self._progress.refresh()

    def says(self, label: str, line: str) -> None:
        """Print above the bars."""
        self._progress.console.print(
            f"{label}: {line}", markup=False, highlight=False, soft_wrap=True
        )

    def ends(self, ended: Ended) -> None:
        """Take the bar away."""
        if ended.label in self._tasks:
            self._progress.remove_task(self._tasks.pop(ended.label))
        self.says(ended.label, f"{ended.rows} rows" + (f"; {ended.reason}" if ended.reason else ""))
