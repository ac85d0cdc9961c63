"""What a benchmark module declares beside its body: sizes, dtypes and devices it has a meaning for.

A mark is data for ``bench/plugin``; nothing here runs a benchmark.

Sizes of profile `default` stay within 16 MiB in a call, but for one beyond every cache that shows
the bandwidth. Between the two, in pages of 4 KiB, whether the translation buffers of the CPU reach
the pages depends on where a process happened to get them: `ones` of 16 MiB took 95 us in one
process and 300 us in the next, each steadily. Profile `full` has those sizes too.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

FLOATING = ("float32", "float16", "bfloat16", "float64")
INTEGRAL = ("uint8", "int8", "int16", "int32", "int64")
NUMERIC = FLOATING + INTEGRAL
ALL = (*NUMERIC, "bool")

#: What profiles `smoke` and `default` time; `full` times every dtype a benchmark is marked with.
DEFAULT_DTYPES = ("float32", "float16", "bfloat16")

#: Devices for which PyTorch pins no memory (pytorch issue 86060).
NOT_PINNED = ("mps",)


def values(default: Iterable[Any], *, full: Iterable[Any] = ()) -> list[Any]:
    """Values of one parameter: those of every profile, then those only profile `full` adds."""
    return [*default, *(pytest.param(value, marks=pytest.mark.full) for value in full)]


def dtypes(*names: str) -> pytest.MarkDecorator:
    """Mark the dtypes (by name, ``"float16"``) the operation has a meaning for."""
    return pytest.mark.dtypes(*names)


def host_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an operation that happens on the host whatever the device (loading files)."""
    marked: Callable[..., Any] = pytest.mark.host_only(function)
    return marked


def accelerator_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an operation that has a meaning only where the device is not the host (transfers)."""
    marked: Callable[..., Any] = pytest.mark.accelerator_only(function)
    return marked
