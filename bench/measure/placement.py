"""Pin each compute thread of the CPU to its own core.

If another process is busy, Linux may keep two threads on one core, where each spins at the
barrier until its time slice ends: a call of 6 us then takes 16 ms, for the whole process. One core
per thread prevents that.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench import CPUS_AT_START
from bench.measure import kernels

_TASKS = Path("/proc/self/task")
_CPUS = Path("/sys/devices/system/cpu")
#: With one of these variables the user has placed the threads already.
PLACED_BY_USER = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


@dataclass
class Placement:
    """The CPU of each pinned thread, by thread id; empty if no thread is pinned."""

    cpus: dict[int, int] = field(default_factory=dict)
    allowed: frozenset[int] = frozenset()

    def undo(self) -> None:
        """Let every thread run on all CPUs again, and processes started from here too."""
        for thread in self.cpus:
            with contextlib.suppress(ProcessLookupError):  # the thread has ended
                os.sched_setaffinity(thread, self.allowed)
        self.cpus = {}

    @contextlib.contextmanager
    def unpinned(self) -> Iterator[None]:
        """Let the threads run on all CPUs, so that processes they start may too.

        Afterwards the threads are pinned again: a fork ends the compute threads, and the next
        parallel operation starts others.
        """
        pinned = bool(self.cpus)
        self.undo()
        bound = os.sched_getaffinity(0) if CPUS_AT_START else set()
        if CPUS_AT_START:  # child processes inherit what OMP_PROC_BIND did to the main thread
            os.sched_setaffinity(0, CPUS_AT_START)
        try:
            yield
        finally:
            if pinned:
                self.cpus = place().cpus
            elif bound:
                os.sched_setaffinity(0, bound)


def _busy_ns() -> dict[int, int]:
    """Return the CPU time of each thread so far in ns (proc(5), /proc/pid/schedstat)."""
    busy = {}
    for entry in _TASKS.iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            busy[int(entry.name)] = int((entry / "schedstat").read_text().split()[0])
    return busy


def _compute_threads(seconds: float = 0.01) -> list[int]:
    """Return the threads that run a parallel operation, the main thread first."""
    work = kernels.synchronisation()
    work()  # starts the threads
    before, start = _busy_ns(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
    after, wanted = _busy_ns(), 0.5e9 * (time.perf_counter() - start)
    return sorted(thread for thread in after if after[thread] - before.get(thread, 0) > wanted)


def by_core(cpus: frozenset[int]) -> list[int]:
    """Return one CPU of each physical core first, by number; their siblings (SMT) follow.

    Two CPUs with successive numbers may be siblings. Raises OSError if the system does not report
    them (sysfs, cpuN/topology).
    """
    seen: dict[str, int] = {}
    ranks = {}
    for cpu in sorted(cpus):
        core = (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
        ranks[cpu] = seen[core] = seen.get(core, -1) + 1
    return sorted(ranks, key=lambda cpu: (ranks[cpu], cpu))


def place() -> Placement:
    """Pin each compute thread of torch to its own CPU, on Linux.

    macOS allows no pinning, and Windows seldom puts two threads on one core. Nothing is pinned
    either if the user has placed the threads, uses one thread or more threads than CPUs, or if the
    compute threads cannot be identified.
    """
    schedstat = _TASKS / str(os.getpid()) / "schedstat"
    if not hasattr(os, "sched_setaffinity") or not schedstat.exists():
        return Placement()
    allowed = frozenset(os.sched_getaffinity(0))
    count = torch.get_num_threads()
    if any(map(os.environ.get, PLACED_BY_USER)) or not 1 < count <= len(allowed):
        return Placement()
    try:
        cpus = by_core(allowed)
    except OSError:
        if count < len(allowed):
            return Placement()  # two threads might get one core
        cpus = sorted(allowed)
    # Two threads on one core seldom both look busy: try several times.
    for _ in range(5):
        threads = _compute_threads()
        if len(threads) == count and threads[0] == os.getpid():
            break
    else:
        return Placement()
    made = Placement(dict(zip(threads, cpus, strict=False)), allowed)
    for thread, cpu in made.cpus.items():
        os.sched_setaffinity(thread, {cpu})
    return made
