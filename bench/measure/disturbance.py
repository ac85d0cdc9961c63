"""Find what disturbed a cell while its rounds were timed, as codes with figures."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bench.measure import cgroup
from bench.measure.kernels import PAUSE_S, ReferenceKernels

try:
    import resource
except ImportError:  # Windows does not count context switches per process
    resource = None  # type: ignore[assignment]

#: Involuntary context switches per second that are more than a quiet machine has: the runs behind
#: docs/method.md had 30 to 40 on a quiet machine, 125 or more if another process used a core.
MAX_SWITCHES_PER_S = 100
#: Share of the time of the rounds for which a CPU quota may stop the process.
MAX_STOPPED = 0.01
#: Change from the first to the last third of the rounds that is more than their noise.
MAX_DRIFT = 0.10
#: Two groups of rounds are two levels if the upper is this many times the lower, ...
MIN_LEVEL_RATIO = 1.5
#: ... each has this share of the rounds, ...
MIN_LEVEL_SHARE = 0.2
#: ... and this share of the variance at most is left within the groups (1 - Otsu's criterion).
MAX_WITHIN_LEVELS = 0.1
#: CPU time over wall time during the warm-up from which an operation uses several threads. Two
#: that wait for each other make 2; threads of an earlier operation, which spin a while, up to 1.3.
SEVERAL_THREADS = 1.5
#: CPU time of the other threads over wall time during the rounds, for the same decision: threads
#: of an earlier operation sleep by then, and an operation on one thread leaves them at 0. Threads
#: that cannot run, or sleep between two regions and wake up for each, do not come near
#: `SEVERAL_THREADS`: a call of 15 us then takes 60 to 170 us, steadily.
OTHER_THREADS = 0.03


class Disturbance(NamedTuple):
    """A code, for which report/reasons.py has the words, and its figures."""

    code: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Disturbances:
    """Involuntary switches per iteration, drift as a share, and each disturbance found."""

    involuntary_switches: float | None = None
    drift: float | None = None
    found: tuple[Disturbance, ...] = ()


def switches() -> int | None:
    """Return the involuntary context switches of this process so far, None if not counted."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else None


def other_threads_s() -> float:
    """Return the CPU seconds of all threads of this process except the calling one."""
    return time.process_time() - time.thread_time()


class NoQuietMoment(Exception):
    """No quiet moment was found in which a repeat could start."""


@dataclass
class DisturbanceMonitor:
    """Checks the machine before the rounds, between them and after; never inside one.

    If it `waits`, it waits for quiet moments while the wait budget of the run lasts. In a `repeat`
    it raises NoQuietMoment if there is none, since the rounds would be as bad as those before.
    Without kernels, every moment is quiet.
    """

    kernels: ReferenceKernels = field(default_factory=ReferenceKernels)
    waits: bool = False
    repeat: bool = False
    started: float = field(default_factory=time.perf_counter)
    cpu_started: float = field(default_factory=time.process_time)
    switches_before: int | None = field(default_factory=switches)
    quota_before: cgroup.Throttling | None = field(default_factory=lambda: cgroup.throttling())
    #: All readings of each kernel, by its name.
    readings: dict[str, list[float]] = field(default_factory=dict)
    parallel: bool = False
    #: Time of the first check, and the CPU time of the other threads then.
    first: tuple[float, float] | None = None
    #: Whether checks were made before several threads were detected.
    late: bool = False
    call_s: float = 0.0
    waited_s: float = 0.0

    def begin(self, call_s: float) -> bool:
        """Return whether the moment before the first round is quiet, after a wait if allowed."""
        quiet = self.settle(call_s)
        if self.repeat and not quiet:
            raise NoQuietMoment
        return quiet

    def check(self, call_s: float) -> bool:
        """Return whether the cores in use are at their best now; a call takes `call_s`."""
        self.call_s = call_s
        if not self.parallel and self.kernels.of_threads(several=True):
            self.parallel = self._several()
        quiet = True
        for kernel in self.kernels.of_threads(self.parallel):
            reading = kernel.read()
            self.readings.setdefault(kernel.name, []).append(reading)
            quiet = quiet and reading < kernel.limit_for(call_s)
        return quiet

    def _several(self) -> bool:
        """Return whether several threads work, judged by the warm-up or the rounds so far."""
        now, others = time.perf_counter(), other_threads_s()
        if self.first is None:
            self.first = now, others
            wall = now - self.started
            return time.process_time() - self.cpu_started > SEVERAL_THREADS * wall
        self.late = others - self.first[1] > OTHER_THREADS * (now - self.first[0])
        return self.late

    def settle(self, call_s: float) -> bool:
        """Return whether the machine is quiet, after a wait for that if allowed."""
        while not self.check(call_s):
            if not (self.waits and self.kernels.budget.wait()):
                return False
            self.waited_s += PAUSE_S
        return True

    def judge(self, rounds_s: Sequence[float], iterations: int, quiet: bool) -> Disturbances:
        """Judge the rounds and all checks; `quiet` if only rounds of quiet moments count."""
        now = switches()
        count = None if now is None or self.switches_before is None else now - self.switches_before
        seconds = time.perf_counter() - self.started - self.waited_s
        slow = () if quiet else self._slow()
        judged = judge(rounds_s, iterations, count, seconds, slow)
        stopped = throttled(self.quota_before, cgroup.throttling(), seconds)
        return replace(judged, found=(*judged.found, stopped)) if stopped else judged

    def _slow(self) -> tuple[Disturbance, ...]:
        """Return the kernels that were slow on average, or the last one if slow too often."""
        read = [kernel for kernel in self.kernels if kernel.name in self.readings]
        means = [(kernel, statistics.fmean(self.readings[kernel.name])) for kernel in read]
        slow = [pair for pair in means if pair[1] >= pair[0].limit_for(self.call_s)]
        slow = slow or [(kernel, kernel.limit) for kernel in read[-1:]]
        return tuple(Disturbance(kernel.code, {"times": times}) for kernel, times in slow)


def throttled(
    before: cgroup.Throttling | None, after: cgroup.Throttling | None, seconds: float
) -> Disturbance | None:
    """Return the disturbance if a CPU quota stopped this process for over `MAX_STOPPED`."""
    if before is None or after is None:
        return None
    found = after - before
    if found.stopped_s <= MAX_STOPPED * seconds:
        return None
    return Disturbance("throttled", {"stopped": found.throttled, "periods": found.periods})


def drift(rounds_s: Sequence[float]) -> float | None:
    """Return the median of the last third over that of the first, less 1; None below six."""
    third = len(rounds_s) // 3
    if third < 2:
        return None
    first, last = statistics.median(rounds_s[:third]), statistics.median(rounds_s[-third:])
    return last / first - 1 if first > 0 else None


def levels(rounds_s: Sequence[float]) -> tuple[float, float] | None:
    """Return the two levels of the rounds in seconds, or None if they form one group.

    The split minimises the variance within the groups, on a log scale (Otsu, "A threshold
    selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979).
    """
    logs = sorted(math.log(seconds) for seconds in rounds_s if seconds > 0)
    fewest = max(2, math.ceil(MIN_LEVEL_SHARE * len(logs)))
    if len(logs) < 2 * fewest or len(logs) < 6:
        return None
    total = statistics.pvariance(logs) * len(logs)

    def within(split: int) -> float:
        groups = logs[:split], logs[split:]
        return sum(statistics.pvariance(group) * len(group) for group in groups)

    split = min(range(fewest, len(logs) - fewest + 1), key=within)
    low = math.exp(statistics.median(logs[:split]))
    high = math.exp(statistics.median(logs[split:]))
    separate = total > 0 and within(split) <= MAX_WITHIN_LEVELS * total
    return (low, high) if separate and high >= MIN_LEVEL_RATIO * low else None


def judge(
    rounds_s: Sequence[float],
    iterations: int,
    switched: int | None,
    seconds: float,
    slow: Sequence[Disturbance] = (),
) -> Disturbances:
    """Judge the rounds of a cell.

    `switched` involuntary context switches happened in `seconds`; `slow` are the disturbances
    that the reference kernels showed.
    """
    found, each = [*slow], None
    if switched is not None:
        each = switched / (iterations * len(rounds_s))
        if switched > MAX_SWITCHES_PER_S * seconds + 5:
            figures = {"rate": switched / seconds, "per_call": each}
            found.insert(0, Disturbance("switches", figures))
    if two := levels(rounds_s):
        found.append(Disturbance("two_levels", {"low_s": two[0], "high_s": two[1]}))
    moved = drift(rounds_s)
    if moved is not None and abs(moved) > MAX_DRIFT and not two:
        found.append(Disturbance("drift", {"times": 1 + moved}))
    return Disturbances(each, moved, tuple(found))
