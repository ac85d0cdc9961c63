"""Where the compute threads of the CPU run.

With two threads and any other busy process, Linux may leave both threads on one core, where each
spins at the barrier until its time slice ends: a call of 6 us then takes 16 ms, steadily, for a
whole process. A core of its own for each thread makes that impossible.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench import CPUS_AT_START
from bench.measure import calibration, disturbance

_TASKS = Path("/proc/self/task")
_CPUS = Path("/sys/devices/system/cpu")
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
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.sched_setaffinity(thread, self.allowed)
        self.cpus = {}

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Let the threads run on all CPUs, so that processes they start may too.

        Afterwards they are placed anew: a fork ends the compute threads, and the next parallel
        operation starts others.
        """
        pinned = bool(self.cpus)
        self.undo()
        bound = os.sched_getaffinity(0) if CPUS_AT_START else set()
        if CPUS_AT_START:  # OMP_PROC_BIND may have bound the main thread, and its children inherit
            os.sched_setaffinity(0, CPUS_AT_START)
        try:
            yield
        finally:
            if pinned:
                self.cpus = place().cpus
            elif bound:
                os.sched_setaffinity(0, bound)


def _busy_ns() -> dict[int, int]:
    """Nanoseconds on a CPU so far, by thread (proc(5), /proc/pid/schedstat)."""
    busy = {}
    for entry in _TASKS.iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            busy[int(entry.name)] = int((entry / "schedstat").read_text().split()[0])
    return busy


def _team(seconds: float = 0.01) -> list[int]:
    """Return the threads that work on a parallel operation, the main thread first."""
    work = meet()
    work()  # starts them
    before = _busy_ns()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
    after = _busy_ns()
    wanted = 0.5e9 * (time.perf_counter() - start)
    return sorted(thread for thread in after if after[thread] - before.get(thread, 0) > wanted)


def by_core(cpus: frozenset[int]) -> list[int]:
    """Return CPUs with one of each physical core first, by number; their siblings follow.

    Where two CPUs are threads of one core (SMT), neighbours in number may be such siblings. Raises
    OSError where the system does not tell (sysfs, cpuN/topology).
    """
    seen: dict[str, int] = {}
    ranks = {}
    for cpu in sorted(cpus):
        core = (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
        ranks[cpu] = seen[core] = seen.get(core, -1) + 1
    return sorted(ranks, key=lambda cpu: (ranks[cpu], cpu))


def place() -> Placement:
    """Give each compute thread of torch a CPU of its own, on Linux.

    macOS decides for itself where threads run and Windows seldom moves them together, so there is
    nothing to do; nor where the user has bound the threads, asked for more of them than there are
    CPUs, or for one. Where it is not plain which threads they are, none is pinned.
    """
    told = _TASKS / str(os.getpid()) / "schedstat"
    if not hasattr(os, "sched_setaffinity") or not told.exists():
        return Placement()
    allowed = frozenset(os.sched_getaffinity(0))
    count = torch.get_num_threads()
    if any(map(os.environ.get, PLACED_BY_USER)) or not 1 < count <= len(allowed):
        return Placement()
    try:
        cpus = by_core(allowed)
    except OSError:
        if count < len(allowed):
            return Placement()  # two of them might be put on one core
        cpus = sorted(allowed)
    # While two of them share a core, the moments in which they look busy are few: try again.
    for _ in range(5):
        team = _team()
        if len(team) == count and team[0] == os.getpid():
            break
    else:
        return Placement()
    made = Placement(dict(zip(team, cpus, strict=False)), allowed)
    for thread, cpu in made.cpus.items():
        os.sched_setaffinity(thread, {cpu})
    return made


def meet() -> Callable[[], object]:
    """Return the smallest operation that all compute threads take part in, some microseconds.

    An elementwise operation gives a further thread a share from every 32,768 elements on
    (at::internal::GRAIN_SIZE).
    """
    return torch.ones(2**15 * torch.get_num_threads()).neg_


def pace() -> Callable[[], object]:
    """Return arithmetic for all compute threads, some 15 us: as slow as the slowest core.

    In place, on numbers that settle at 0.659: nothing is allocated, and no denormals arise.
    """
    return torch.full((2**15 * torch.get_num_threads(),), 0.6).sigmoid_


def yardsticks(key: str, cells: int = 0) -> disturbance.Yardsticks:
    """Return the yardsticks of the core and, where there are several threads, of all of them.

    They know the best of the last day on the machine and software that `key` names, and have the
    patience of a run of so many `cells`.
    """
    several = torch.get_num_threads() > 1
    last = disturbance.PACE if several else disturbance.CORE
    search_s = disturbance.AGAIN_S if last in calibration.known(key) else disturbance.SEARCH_S
    made = disturbance.Yardsticks(
        disturbance.Yardstick(disturbance.digest, search_s),
        disturbance.Yardstick(meet(), search_s) if several else None,
        disturbance.Yardstick(pace(), search_s) if several else None,
        disturbance.Patience.of(cells),
    )
    made.learn(key)
    return made
