"""How fast, and how right, PyTorch is on this machine, across devices and dtypes."""

import importlib
import os
from typing import Any

#: CPUs that this process may run on, read before torch is imported: with ``OMP_PROC_BIND`` set, its
#: OpenMP runtime binds the main thread to one of them. None where the platform has no affinity.
CPUS_AT_START = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return `best`, which is imported when it is first used: it needs pandas and scipy."""
    if name == "best":
        return importlib.import_module("bench.cli.best").best
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
