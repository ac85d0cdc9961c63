"""Measure what disturbs the rounds of a cell: stolen time and slow reference kernels."""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from bench.measure import cgroup, threads
from bench.measure.kernels import ReferenceKernel, ReferenceKernels
from bench.measure.threads import Sample, ThreadTimes

try:
    import resource
except ImportError:  # Windows does not count context switches per process
    resource = None  # type: ignore[assignment]

#: CPU time of the other threads over wall time from which an operation uses several threads.
#: Threads that cannot run, or wake up for each parallel region, do not reach more: a call of 15 us
#: then takes 60 to 170 us.
OTHER_THREADS = 0.03
#: Threads that have worked spin for 2 to 8 ms, depending on the CPU, before they sleep. A wait for
#: them takes no longer than this, and looks that often.
ASLEEP_S, LOOK_S = 0.1, 0.0005
#: After so many waits in vain there are no more: threads may spin for ever (OMP_WAIT_POLICY).
GIVE_UP = 3
#: A reading of a reference kernel counts if threads waited for a CPU during less than this share of
#: it. What waiting costs is known of each round; the kernels show what no counter shows.
WAITED = 0.1
#: More than this share of a round is never taken for stolen: the rest took some time. With twelve
#: busy processes on two cores, 99.8 % of some rounds was stolen.
MOST_STOLEN = 0.9999


def switches() -> int | None:
    """Return the involuntary context switches of this process so far, None if not counted.

    macOS counts each wait for a condition as one, and so each wait for the GPU.
    """
    if resource is None or sys.platform == "darwin":
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True)
class Visit:
    """The rounds of one visit to a cell, and what disturbed them.

    `rounds_s` are seconds of one iteration in each round. `stolen` is the share of each round in
    which a thread was ready and did not run; None if the platform does not report it. `kernels_s`
    are the mean seconds of each reference kernel beside the rounds, by name; a kernel during whose
    readings threads waited is left out. `throttled` is the throttling by a CPU quota during the
    rounds, `core_s` the quickest reading of the kernel of one core. `single`: a single call, often
    the first one, of which no interval is known. `parallel`: the operation uses several threads.
    """

    rounds_s: tuple[float, ...]
    iterations: int
    stolen: tuple[float, ...] | None = None
    kernels_s: dict[str, float] = field(default_factory=dict)
    throttled: cgroup.Throttling | None = None
    switches: float | None = None
    core_s: float | None = None
    single: bool = False
    parallel: bool = False

    @property
    def seconds(self) -> float:
        """The length of all rounds."""
        return sum(self.rounds_s) * self.iterations


class Reading(NamedTuple):
    """Seconds of a reference kernel, and the share of the reading in which a thread waited."""

    seconds: float
    waited: float


@dataclass
class DisturbanceMonitor:
    """Observes the machine before the rounds, between them and after; never inside one.

    Without kernels and with `own_threads` False, as for a cell that starts processes, it observes
    the quota, and the share of the CPUs that other processes used during all rounds.
    """

    kernels: ReferenceKernels = field(default_factory=ReferenceKernels)
    own_threads: bool = True
    times: ThreadTimes = field(default_factory=ThreadTimes)
    #: Whether the operation uses several threads.
    parallel: bool = False
    #: Waits in vain for threads to sleep, in this process.
    in_vain: ClassVar[int] = 0
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    stolen: list[float] = field(default_factory=list)
    _last: Sample | None = None
    _begun_s: float = 0.0
    _used_s: float = 0.0
    _quota: cgroup.Throttling | None = None
    _switches: int | None = None

    @contextlib.contextmanager
    def first_warm_up(self) -> Iterator[None]:
        """Find out during the first warm-up whether the operation uses several threads.

        The threads of an earlier operation have to sleep first. Linux counts the time of a thread
        at its ticks, every 1 to 10 ms, and when it falls asleep; one that is still awake at the end
        was woken by the operation.
        """
        self.let_sleep(lambda: time.sleep(LOOK_S))
        started, before = time.perf_counter(), self.times.read()
        yield
        self.discover()
        others_s = self.times.read().others_s - before.others_s
        worked = others_s > OTHER_THREADS * (time.perf_counter() - started)
        self.parallel = self.own_threads and (worked or not self.times.asleep())

    def let_sleep(self, wait: Callable[[], object]) -> None:
        """Call `wait` until threads that an earlier operation has left spinning sleep."""
        self.discover()
        end = time.perf_counter() + ASLEEP_S
        while DisturbanceMonitor.in_vain < GIVE_UP and not self.times.asleep():
            if time.perf_counter() > end:
                DisturbanceMonitor.in_vain += 1
                break
            wait()

    def discover(self) -> None:
        """Look for the threads of this process."""
        if self.own_threads:
            self.times.discover()

    def begin(self) -> None:
        """Observe the machine before the first round, after the warm-up."""
        self.discover()
        if not self.own_threads:
            self._begun_s, self._used_s = time.perf_counter(), threads.used_by_others_s()
        self._quota, self._switches = cgroup.throttling(), switches()
        self._look()
        self._read_kernels(self.parallel, once=True)
        # `core_s` of all cells shows how fast a core was during a run.
        for several in {False, self.parallel}:
            self._read_kernels(several)

    def after_round(self, seconds: float) -> None:
        """Note what a round of so many seconds lost, and read the reference kernels."""
        waited_s = self._look()
        if self.own_threads and waited_s is not None:
            self.stolen.append(min(MOST_STOLEN, waited_s / seconds))
        self._read_kernels(self.parallel)

    def losses(self) -> dict[str, float]:
        """Return the loss that each short kernel shows now, by name: in some 30 microseconds.

        A kernel during which a thread waited says nothing.
        """
        self.discover()
        self._look()
        short = [(kernel, self._reading(kernel)) for kernel in self.kernels.without_long()]
        return {k.name: k.loss(seen.seconds) for k, seen in short if seen.waited < WAITED}

    def _look(self) -> float | None:
        """Return how long threads waited since the last look."""
        if not self.own_threads:
            return None
        now = self.times.read()
        before, self._last = self._last or now, now
        if now.waited_s is None or before.waited_s is None:
            return None
        return now.waited_s - before.waited_s

    def _reading(self, kernel: ReferenceKernel) -> Reading:
        started = time.perf_counter()
        seconds = kernel.read()
        took_s = time.perf_counter() - started
        waited_s = self._look()
        return Reading(seconds, (waited_s or 0.0) / took_s if took_s else 0.0)

    def _read_kernels(self, several: bool, once: bool = False) -> None:
        for kernel in self.kernels.of_threads(several):
            if kernel.once_a_visit == once:
                self.readings.setdefault(kernel.name, []).append(self._reading(kernel))

    def visit(self, rounds_s: Sequence[float], iterations: int) -> Visit:
        """Return what was observed of these rounds."""
        if not self.own_threads:
            seconds = time.perf_counter() - self._begun_s
            others = (threads.used_by_others_s() - self._used_s) / (os.cpu_count() or 1)
            self.stolen = [min(MOST_STOLEN, max(0.0, others / seconds))] * len(rounds_s)
        after, count = cgroup.throttling(), switches()
        self.times.close()
        kernels_s = {}
        for kernel in self.kernels.of_threads(self.parallel):
            readings = self.readings.get(kernel.name, ())
            if counted := [seen.seconds for seen in readings if seen.waited < WAITED]:
                kernels_s[kernel.name] = kernel.learn(counted)
        calls = iterations * len(rounds_s)
        return Visit(
            tuple(rounds_s),
            iterations,
            tuple(self.stolen) if len(self.stolen) == len(rounds_s) else None,
            kernels_s,
            after - self._quota if after and self._quota else None,
            None if count is None or self._switches is None else (count - self._switches) / calls,
            min((seen.seconds for seen in self.readings.get("core", ())), default=None),
            parallel=self.parallel,
        )


def drift(rounds_s: Sequence[float]) -> float | None:
    """Return the median of the last third over that of the first, minus 1; None below six."""
    third = len(rounds_s) // 3
    if third < 2:
        return None
    first, last = statistics.median(rounds_s[:third]), statistics.median(rounds_s[-third:])
    return last / first - 1 if first > 0 else None
