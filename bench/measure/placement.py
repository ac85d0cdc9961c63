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
#: Share of a core that a compute thread uses at least, even if it shares the core with other
#: processes or with another compute thread; the other threads of the process sleep.
BUSY = 0.1
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

        Afterwards the threads are pinned again: after a fork, the next parallel operation may start
        others. If they cannot be identified, those of before are pinned that are still alive.
        """
        pinned = self.cpus
        self.undo()
        bound = os.sched_getaffinity(0) if CPUS_AT_START else set()
        if CPUS_AT_START:  # child processes inherit what OMP_PROC_BIND did to the main thread
            os.sched_setaffinity(0, CPUS_AT_START)
        try:
            yield
        finally:
            if pinned:
                self.cpus = place().cpus or _pin(pinned)
            elif bound:
                os.sched_setaffinity(0, bound)


def _pin(cpus: dict[int, int]) -> dict[int, int]:
    """Pin each thread to its CPU; return those that are alive."""
    alive = {}
    for thread, cpu in cpus.items():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {cpu})
            alive[thread] = cpu
    return alive


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
    after, wanted_ns = _busy_ns(), BUSY * 1e9 * (time.perf_counter() - start)
    return sorted(thread for thread in after if after[thread] - before.get(thread, 0) > wanted_ns)


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
    # A thread that waits for a core may look idle for so long: try several times.
    for _ in range(5):
        threads = _compute_threads()
        if len(threads) == count and threads[0] == os.getpid():
            break
    else:
        return Placement()
    return Placement(_pin(dict(zip(threads, cpus, strict=False))), allowed)
