"""What a benchmark module declares beside its body: sizes, dtypes and devices it has a meaning for.

A mark is data for ``bench/conftest.py``; nothing here runs a benchmark.
"""

from collections.abc import Iterable
from typing import Any

import pytest

FLOATING = ("float32", "float16", "bfloat16", "float64")
INTEGRAL = ("uint8", "int8", "int16", "int32", "int64")
NUMERIC = FLOATING + INTEGRAL
ALL = (*NUMERIC, "bool")

#: What profiles `smoke` and `default` time; `full` times every dtype a benchmark is marked with.
DEFAULT_DTYPES = ("float32", "float16", "bfloat16")


def values(default: Iterable[Any], *, full: Iterable[Any] = ()) -> list[Any]:
    """Values of one parameter: those of every profile, then those only profile `full` adds."""
    return [*default, *(pytest.param(value, marks=pytest.mark.full) for value in full)]


def dtypes(*names: str) -> pytest.MarkDecorator:
    """Mark the dtypes (by name, ``"float16"``) the operation has a meaning for."""
    return pytest.mark.dtypes(*names)


#: The operation has a meaning only where the device is not the host (transfers, say).
accelerator_only = pytest.mark.accelerator_only
