"""Where the compute threads of the CPU run.

With two threads and any other busy process, Linux may leave both threads on one core, where each
spins at the barrier until its time slice ends: a call of 6 us then takes 16 ms, steadily, for a
whole process. A core of its own for each thread makes that impossible.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

_TASKS = Path("/proc/self/task")
#: Whoever sets one of these has placed the threads already.
PLACED_BY_USER = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


@dataclass
class Placement:
    """Threads pinned to a CPU each, by thread id; empty where the platform has no way to do it."""

    cpus: dict[int, int] = field(default_factory=dict)
    allowed: frozenset[int] = frozenset()

    def undo(self) -> None:
        """Let every thread run on all CPUs again, as processes started from here should."""
        for thread in self.cpus:
            os.sched_setaffinity(thread, self.allowed)
        self.cpus = {}

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Let the calling thread run on all CPUs, so that processes it starts may too."""
        main = os.getpid()
        if main not in self.cpus:
            yield
            return
        os.sched_setaffinity(main, self.allowed)
        try:
            yield
        finally:
            if main in self.cpus:  # an interrupted run undoes the placement before its cell ends
                os.sched_setaffinity(main, {self.cpus[main]})


def _tasks() -> set[int]:
    return {int(entry.name) for entry in _TASKS.iterdir()}


def place() -> Placement:
    """Give each compute thread of torch a CPU of its own, on Linux.

    macOS decides for itself where threads run and Windows seldom moves them together, so there is
    nothing to do; nor where the user has bound the threads, asked for more of them than there are
    CPUs, or for one. The threads are those that the first parallel operation starts; where that
    is not plain, none is pinned.
    """
    if not hasattr(os, "sched_setaffinity") or not _TASKS.is_dir():
        return Placement()
    allowed = frozenset(os.sched_getaffinity(0))
    count = torch.get_num_threads()
    if any(map(os.environ.get, PLACED_BY_USER)) or not 1 < count <= len(allowed):
        return Placement()
    before = _tasks()
    torch.rand(2**20).sigmoid()
    team = [os.getpid(), *sorted(_tasks() - before)]
    if len(team) != count:
        return Placement()
    made = Placement(dict(zip(team, sorted(allowed), strict=False)), allowed)
    for thread, cpu in made.cpus.items():
        os.sched_setaffinity(thread, {cpu})
    return made


def meet() -> Callable[[], object]:
    """Return the smallest operation that all compute threads take part in, some microseconds.

    An elementwise operation gives a further thread a share from every 32,768 elements on
    (at::internal::GRAIN_SIZE).
    """
    return torch.ones(2**15 * torch.get_num_threads()).neg_
