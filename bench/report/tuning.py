"""The table of a search for DataLoader settings."""

from collections.abc import Sequence
from typing import Any, Protocol

from tabulate import tabulate

from bench.report import units


class Trial(Protocol):
    """What is shown of a setting."""

    @property
    def setting(self) -> Any:
        """It has `workers` and `batch`, and its keyword `arguments()` of a DataLoader."""

    @property
    def compared(self) -> list[float]:
        """Samples per second in epochs that were timed in turn with other settings."""

    @property
    def rate(self) -> float:
        """Median samples per second."""

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the median."""


def _call(setting: Any) -> str:
    words = ", ".join(f"{name}={value!r}" for name, value in setting.arguments().items())
    return f"DataLoader(dataset, {words})"


def text(trials: Sequence[Trial], settings: int, top: int) -> str:
    """Return the table of the `top` best trials, and the best one as code.

    If some trials were compared, only these are shown: the speeds of others are of other times.
    """
    best = trials[0]
    shown = [trial for trial in trials if trial.compared] or trials
    rows = [
        (
            f"{trial.rate:,.0f}",
            "{:,.0f} to {:,.0f}".format(*trial.interval),
            units.significant(trial.rate / best.rate, 3),
            _call(trial.setting),
        )
        for trial in shown[:top]
    ]
    headers = ("samples/s", "95 % interval", "of the best", "setting")
    align = ("right", "right", "right", "left")
    table = tabulate(rows, headers, colalign=align, disable_numparse=True)
    count = f"{len(trials)} of {settings} settings were tried, the best ones in turn. Best here:"
    lines = [table, "", count, "", f"    {_call(best.setting)}"]
    plain = [trial.rate for trial in shown if trial.setting.workers == 0]
    if best.setting.workers and plain:
        lines += ["", f"{best.rate / max(plain):.2f} times the best without workers."]
    close = [trial for trial in shown[1:] if trial.interval[1] >= best.interval[0]]
    if close:
        lines.append(f"{len(close)} more are within its interval: take the one with fewer workers.")
    return "\n".join(lines)
