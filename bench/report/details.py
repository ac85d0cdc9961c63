"""The figures of one row that the table of the report has no column for, as one line."""

from collections.abc import Callable
from typing import Any

from bench.report import units

#: Column -> its label and how its value is written, in the order of the line.
_LABELS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "run_started": ("run of", str),
    "torch": ("torch", str),
    "threads": ("threads", str),
    "device_name": ("device", str),
    "driver": ("driver", str),
    "rounds": ("rounds", "{:,}".format),
    "iterations": ("iterations", "{:,}".format),
    "min_s": ("min", units.seconds),
    "q1_s": ("q1", units.seconds),
    "q3_s": ("q3", units.seconds),
    "max_s": ("max", units.seconds),
    "mean_s": ("mean", units.seconds),
    "stddev_s": ("stddev", units.seconds),
    "ci_low_s": ("interval from", units.seconds),
    "ci_high_s": ("to", units.seconds),
    "first_call_s": ("first call", units.seconds),
    "device_s": ("on the device", units.seconds),
    "dispatch_s": ("launch", units.seconds),
    "items": ("items", "{:,}".format),
    "item_unit": ("unit", str),
    "bytes": ("moved", units.size),
    "flop": ("flop", "{:,}".format),
    "tolerance": ("tolerance", "{:.1e}".format),
    "involuntary_switches": ("involuntary switches", units.significant),
    "drift": ("drift", "{:+.1%}".format),
    "stolen": ("taken by others", "{:.0%}".format),
    "slowdown": ("reference kernels slower by", units.significant),
    "core_s": ("reference kernel", units.seconds),
}


def line(row: Any) -> str:
    """Return ``rounds 12; min 1.01 ms; ...`` for a row of a frame, in which None is blank."""
    known = ((words, getattr(row, column)) for column, words in _LABELS.items())
    return "; ".join(
        f"{label} {write(value)}" for (label, write), value in known if value not in (None, "")
    )
