"""How fast, and how right, PyTorch is on this machine, across devices and dtypes."""

import os

#: CPUs that this process may run on, read before torch is imported: with ``OMP_PROC_BIND`` set, its
#: OpenMP runtime binds the main thread to one of them. None where the platform has no affinity.
CPUS_AT_START = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

__version__ = "0.1.0"
