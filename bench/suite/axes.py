"""Marks with which a benchmark declares its sizes, dtypes and devices.

A mark is data for ``bench/plugin``; this module runs no benchmark.

In profile `default` a call moves at most 16 MiB, except for one size larger than every cache that
shows the bandwidth. Times of sizes in between differ between processes, because the CPU's
translation buffers cover the 4 KiB pages of one process and not those of another: `ones` of 16 MiB
took 95 us in every round of one process and 300 us in the next. Profile `full` has these sizes too.
"""

from collections.abc import Iterable
from typing import Any

import pytest

FLOATING = ("float32", "float16", "bfloat16", "float64")
INTEGRAL = ("uint8", "int8", "int16", "int32", "int64")
NUMERIC = FLOATING + INTEGRAL
ALL = (*NUMERIC, "bool")

#: The dtypes that profiles `smoke` and `default` time; `full` times every dtype of the mark.
DEFAULT_DTYPES = ("float32", "float16", "bfloat16")
#: The same for a benchmark whose dtype answers no question of its own.
FLOAT32 = ("float32",)

#: Marks an operation that always runs on the host, such as loading files.
host_only = pytest.mark.host_only
#: Marks an operation that needs a device other than the host, such as a transfer.
accelerator_only = pytest.mark.accelerator_only

#: Devices for which a DataLoader pins no memory (pytorch issue 86060).
NOT_PINNED = ("mps",)


def values(
    default: Iterable[Any], *, full: Iterable[Any] = (), accelerator: Iterable[Any] = ()
) -> list[Any]:
    """Return the values of a parameter: for every profile, then for profile `full` only.

    Those in `accelerator` are for every profile, but not for the CPU.
    """
    more = [pytest.param(value, marks=pytest.mark.full) for value in full]
    large = [pytest.param(value, marks=accelerator_only) for value in accelerator]
    return [*default, *more, *large]


def dtypes(*names: str, default: Iterable[str] = DEFAULT_DTYPES) -> pytest.MarkDecorator:
    """Mark the dtypes (by name, ``"float16"``) that an operation supports.

    Profiles `smoke` and `default` time only those that `default` names. As ``pytestmark`` it holds
    for all benchmarks of a file that have no such mark of their own.
    """
    return pytest.mark.dtypes(*names, default=tuple(default))


def quick(**chosen: Iterable[Any]) -> pytest.MarkDecorator:
    """Mark the cells of profile `quick`: those whose params, or dtype, have one of these values.

    Profile `quick` answers the questions of most users in a minute, so it has some thirty cells.
    """
    return pytest.mark.quick(**{name: tuple(values) for name, values in chosen.items()})
