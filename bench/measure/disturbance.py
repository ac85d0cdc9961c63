"""Measure what disturbs the rounds of a cell: stolen time and slow reference kernels."""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measure import cgroup, threads
from bench.measure.kernels import ReferenceKernels
from bench.measure.threads import Sample, ThreadTimes

try:
    import resource
except ImportError:  # Windows does not count context switches per process
    resource = None  # type: ignore[assignment]

#: CPU time of the other threads over wall time from which an operation uses several threads.
#: Threads of an earlier operation spin for a while, then sleep; an operation on one thread leaves
#: them at 0. Threads that cannot run, or wake up for each parallel region, do not reach more: a
#: call of 15 us then takes 60 to 170 us.
OTHER_THREADS = 0.03
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
    are the mean seconds of each reference kernel beside the rounds, by name. `throttled` is the
    throttling by a CPU quota during the rounds, `core_s` the quickest reading of the kernel of one
    core. `single`: a single call, often the first one, of which no interval is known.
    """

    rounds_s: tuple[float, ...]
    iterations: int
    stolen: tuple[float, ...] | None = None
    kernels_s: dict[str, float] = field(default_factory=dict)
    throttled: cgroup.Throttling | None = None
    switches: float | None = None
    core_s: float | None = None
    single: bool = False

    @property
    def seconds(self) -> float:
        """The length of all rounds."""
        return sum(self.rounds_s) * self.iterations


@dataclass
class DisturbanceMonitor:
    """Observes the machine before the rounds, between them and after; never inside one.

    Without kernels and with `own_threads` False, as for a cell that starts processes, it observes
    the quota, and the share of the CPUs that other processes used during all rounds.
    """

    kernels: ReferenceKernels = field(default_factory=ReferenceKernels)
    own_threads: bool = True
    times: ThreadTimes = field(default_factory=ThreadTimes)
    #: Wall time of the rounds, and the CPU time of the other threads in them.
    timed_s: float = 0.0
    others_s: float = 0.0
    readings: dict[str, list[float]] = field(default_factory=dict)
    stolen: list[float] = field(default_factory=list)
    _start: Sample | None = None
    _begun_s: float = 0.0
    _used_s: float = 0.0
    _quota: cgroup.Throttling | None = None
    _switches: int | None = None

    @property
    def parallel(self) -> bool:
        """Whether the operation uses several threads, as far as is known."""
        return self.others_s > OTHER_THREADS * self.timed_s

    def begin(self) -> None:
        """Observe the machine before the first round, after the warm-up."""
        if self.own_threads:
            self.times.discover()
        else:
            self._begun_s, self._used_s = time.perf_counter(), threads.used_by_others_s()
        self._quota, self._switches = cgroup.throttling(), switches()
        self._read_kernels(once=True)
        self._read_kernels()
        self.before_round()

    def before_round(self) -> None:
        """Note the state of the threads right before a round."""
        if self.own_threads:
            self._start = self.times.read()

    def after_round(self, seconds: float) -> None:
        """Note what a round of so many seconds lost, and read the reference kernels."""
        if self._start is not None:
            now, start = self.times.read(), self._start
            if now.waited_s is not None and start.waited_s is not None:
                self.stolen.append(min(MOST_STOLEN, (now.waited_s - start.waited_s) / seconds))
            self.timed_s += seconds
            self.others_s += now.others_s - start.others_s
        self._read_kernels()

    def _read_kernels(self, once: bool = False) -> None:
        for kernel in self.kernels.of_threads(self.parallel):
            if kernel.once_a_visit == once:
                self.readings.setdefault(kernel.name, []).append(kernel.read())

    def visit(self, rounds_s: Sequence[float], iterations: int) -> Visit:
        """Return what was observed of these rounds."""
        if not self.own_threads:
            seconds = time.perf_counter() - self._begun_s
            others = (threads.used_by_others_s() - self._used_s) / (os.cpu_count() or 1)
            self.stolen = [min(MOST_STOLEN, max(0.0, others / seconds))] * len(rounds_s)
        after, count = cgroup.throttling(), switches()
        self.times.close()
        kernels_s = {
            kernel.name: kernel.learn(self.readings[kernel.name])
            for kernel in self.kernels.of_threads(self.parallel)
            if kernel.name in self.readings
        }
        calls = iterations * len(rounds_s)
        return Visit(
            tuple(rounds_s),
            iterations,
            tuple(self.stolen) if len(self.stolen) == len(rounds_s) else None,
            kernels_s,
            after - self._quota if after and self._quota else None,
            None if count is None or self._switches is None else (count - self._switches) / calls,
            min(self.readings.get("core", ()), default=None),
        )


def drift(rounds_s: Sequence[float]) -> float | None:
    """Return the median of the last third over that of the first, minus 1; None below six."""
    third = len(rounds_s) // 3
    if third < 2:
        return None
    first, last = statistics.median(rounds_s[:third]), statistics.median(rounds_s[-third:])
    return last / first - 1 if first > 0 else None
