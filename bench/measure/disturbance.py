"""What betrays that a cell was disturbed while its rounds were timed."""

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.measure import calibration, cgroup
from bench.report import units

try:
    import resource
except ImportError:  # Windows counts no context switches for a process
    resource = None  # type: ignore[assignment]

#: Involuntary context switches a second that are more than a quiet machine's housekeeping: the
#: runs behind docs/method.md had 30 to 40 when quiet, and 125 or more with a neighbour on a core.
MAX_SWITCHES_PER_S = 100
#: Share of the time of the rounds for which a CPU quota may stop the process.
MAX_STOPPED = 0.01
#: Change from the first to the last third of the rounds that is more than their noise.
MAX_DRIFT = 0.10
#: Two groups of rounds are two levels where the upper is this many times the lower, ...
LEVELS_APART = 1.5
#: ... each holds this share of the rounds, ...
LEVEL_SHARE = 0.2
#: ... and both together leave this share of the variance (1 - Otsu's criterion).
LEVELS_LEAVE = 0.1
#: The core's yardstick takes this many times its best: another tenant has its execution units.
SLOW_CORE = 1.2
#: The same for all cores in use: the slowest of them has the others wait. On two quiet virtual
#: cores it takes 1.00 to 1.02 times its best, and 1.25 to 1.6 where a neighbour has part of either.
SLOW_PACE = 1.15
#: The same for the threads together. A shared cache between their cores makes 2.3 us of it, none
#: makes 4.3 us, and a quiet machine up to 3.4 us (seen on two virtual cores). Of 534 cells that met
#: faster than that throughout none was 1.3 times off its best of six processes, of 181 others one
#: in five, up to 3.1 times: what one thread wrote, the other has to fetch from afar.
SLOW_TEAM = 1.5
#: Calls from here on move more than a cache holds, and were no more than 1.2 times off; of them
#: only a core in use by someone else is a disturbance.
LONG_CALL_S, SLOW_TEAM_OF_LONG = 10e-3, 2.0
#: CPU time over wall time from which an operation runs on several threads. Two that wait for each
#: other make 2; threads of an earlier operation, which spin on for a while, up to 1.3.
SEVERAL_THREADS = 1.5
#: The same of the other threads alone, over the rounds: those of an earlier operation sleep by
#: then, and an operation of one thread leaves them at 0. Threads that are kept from their work, or
#: sleep between two regions and are woken for each, do not come near `SEVERAL_THREADS`: a call of
#: 15 us takes 60 to 170 us then, steadily.
OTHER_THREADS = 0.03
#: A yardstick is tried so often at a look at most, and until it takes this many times its best.
TRIES, GOOD_ENOUGH = 6, 1.05
#: Seconds that a run waits for disturbances to pass: for each of its cells, in all at least and at
#: most, and how long between two looks. Where a host moves its virtual cores about, they last
#: seconds: so a disturbed cell first lets all others go before, and only then is waited for.
PATIENCE_S, LEAST_PATIENCE_S, MOST_PATIENCE_S, PAUSE_S = 0.1, 1.0, 45.0, 0.02
#: Seconds in which a yardstick's best time is looked for at the start of a run: on a machine of
#: which none is known, and on one that another process has known today.
SEARCH_S, AGAIN_S = 0.5, 0.1
_DIGESTED = bytes(2_000)
#: The names under which their bests are kept: those of the work, which another version may change.
CORE, TEAM, PACE = "digest", "meet", "sigmoid"


class Yardstick:
    """A fixed piece of work of a few microseconds, whose time varies with the machine alone.

    It tells, beside any round, whether the machine just then is at its best; nothing else shows
    another tenant of the same physical core, a lower clock, or cores that were moved apart.
    """

    def __init__(self, work: Callable[[], object], search_s: float | None = None) -> None:
        """Find the best time of `work` among all that fit into `search_s` (`SEARCH_S`)."""
        self.work = work
        self.best_s = math.inf
        end = time.perf_counter() + (SEARCH_S if search_s is None else search_s)
        while time.perf_counter() < end:
            self.read()

    def _take(self) -> float:
        start = time.perf_counter()
        self.work()
        return time.perf_counter() - start

    def read(self) -> float:
        """Return how many times its best it takes now: the quickest of up to `TRIES`.

        The first ones find the caches as the timed operation left them, which says nothing of the
        neighbours: after one that streams 100 MB they would always be slow.
        """
        seconds = math.inf
        for _ in range(TRIES):
            seconds = min(seconds, self._take())
            if seconds <= GOOD_ENOUGH * self.best_s:
                break
        self.best_s = min(self.best_s, seconds)
        return seconds / self.best_s


def digest() -> None:
    """Work for one core: some 8 us of arithmetic in registers.

    BLAKE2 keeps several units of a core busy at once, so that another tenant of the core shows, and
    asks nothing of memory. A loop in the interpreter would not do: it takes up to 1.3 times as long
    in one process as in the next, by where its objects happen to lie; this takes 1.005 times.
    """
    for _ in range(4):
        # Below 2048 bytes it keeps the interpreter's lock.
        hashlib.blake2b(_DIGESTED, usedforsecurity=False)


@dataclass
class Patience:
    """What is left of the seconds that a run may wait."""

    left_s: float = 0.0

    @classmethod
    def of(cls, cells: int) -> "Patience":
        """Return that of a run of so many cells."""
        return cls(min(MOST_PATIENCE_S, max(LEAST_PATIENCE_S, PATIENCE_S * cells)))

    def wait(self) -> bool:
        """Wait a moment; return False, at once, where none is left."""
        if self.left_s <= 0:
            return False
        time.sleep(PAUSE_S)
        self.left_s -= PAUSE_S
        return True


@dataclass(frozen=True)
class Yardsticks:
    """One for the core of the main thread, and two for all compute threads together.

    These two are read beside operations that use several threads, the first beside others. `team`
    costs little more than the signal from core to core; `pace` is arithmetic in each core, and as
    slow as the slowest of them. `patience` is that of the run.
    """

    core: Yardstick
    team: Yardstick | None = None
    pace: Yardstick | None = None
    patience: Patience = field(default_factory=Patience)

    def named(self) -> dict[str, Yardstick]:
        """Return those there are, by the names under which their bests are kept."""
        every = {CORE: self.core, TEAM: self.team, PACE: self.pace}
        return {name: stick for name, stick in every.items() if stick}

    def learn(self, key: str) -> None:
        """Take over what is known to be the best on the machine that `key` names."""
        known = calibration.known(key)
        for name, stick in self.named().items():
            stick.best_s = min(stick.best_s, known.get(name, math.inf))

    def teach(self, key: str) -> None:
        """Keep the best times for the processes that follow."""
        calibration.keep(key, {name: stick.best_s for name, stick in self.named().items()})


def yardsticks_of_the_core() -> Yardsticks:
    """Return the yardstick of the main thread's core alone."""
    return Yardsticks(Yardstick(digest))


def switches() -> int | None:
    """Involuntary context switches of this process so far, where the platform counts them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else None


def others_s() -> float:
    """CPU seconds of all threads of this process but the one that asks."""
    return time.process_time() - time.thread_time()


class NeverCalm(Exception):
    """There was no calm moment to begin in."""


@dataclass
class Watch:
    """Looks at the machine before the rounds, between them and after; never inside one.

    A `patient` one waits for calm moments, as long as the patience of the run lasts; where rounds
    are timed `again`, NeverCalm is raised rather than have as bad ones once more.
    """

    yardsticks: Yardsticks
    patient: bool = False
    again: bool = False
    started: float = field(default_factory=time.perf_counter)
    cpu_started: float = field(default_factory=time.process_time)
    switched: int | None = field(default_factory=switches)
    slow_core: list[float] = field(default_factory=list)
    slow_threads: list[float] = field(default_factory=list)
    slow_pace: list[float] = field(default_factory=list)
    parallel: bool = False
    #: When the first look was, and the CPU time of the other threads then.
    first: tuple[float, float] | None = None
    #: Whether looks were taken before it was known that several threads are at work.
    late: bool = False
    slow_team: float = SLOW_TEAM
    waited_s: float = 0.0

    def begin(self, call_s: float) -> bool:
        """Settle before the first round; raise NeverCalm where that is no use."""
        calm = self.settle(call_s)
        if self.again and not calm:
            raise NeverCalm
        return calm

    def look(self, call_s: float) -> bool:
        """Whether the cores in use are at their best just now, between two rounds of such calls."""
        self.slow_team = SLOW_TEAM if call_s < LONG_CALL_S else SLOW_TEAM_OF_LONG
        if not self.parallel:
            self.parallel = self._several()
        calm = True
        if self.parallel and self.yardsticks.team:
            self.slow_threads.append(self.yardsticks.team.read())
            calm = self.slow_threads[-1] < self.slow_team
        if self.parallel and self.yardsticks.pace:
            self.slow_pace.append(self.yardsticks.pace.read())
            return calm and self.slow_pace[-1] < SLOW_PACE
        # With all cores at work each may have a lower clock than one alone: that is no disturbance.
        self.slow_core.append(self.yardsticks.core.read())
        return calm and self.slow_core[-1] < SLOW_CORE

    def _several(self) -> bool:
        """Whether several threads are at work, by what the warm-up or the rounds so far show."""
        now, others = time.perf_counter(), others_s()
        if self.first is None:
            self.first = now, others
            wall = now - self.started
            return time.process_time() - self.cpu_started > SEVERAL_THREADS * wall
        self.late = others - self.first[1] > OTHER_THREADS * (now - self.first[0])
        return self.late

    def settle(self, call_s: float) -> bool:
        """Look; where it is not calm and waiting is allowed, wait until it is."""
        while not self.look(call_s):
            if not (self.patient and self.yardsticks.patience.wait()):
                return False
            self.waited_s += PAUSE_S
        return True

    def signs(self, rounds_s: Sequence[float], iterations: int, calm: bool) -> "Signs":
        """What was seen, judged; `calm` where the rounds are those of calm moments alone."""
        now = switches()
        count = None if now is None or self.switched is None else now - self.switched
        seconds = time.perf_counter() - self.started - self.waited_s
        core = team = pace = 1.0
        if not calm:
            every = (self.slow_core, self.slow_threads, self.slow_pace)
            core, team, pace = (statistics.fmean(seen) if seen else 1.0 for seen in every)
            if core < SLOW_CORE and team < self.slow_team and pace < SLOW_PACE:
                # Slow now and then, but too often.
                core, pace = (core, SLOW_PACE) if self.slow_pace else (SLOW_CORE, pace)
        team = team if team >= self.slow_team else 1.0
        return judge(rounds_s, iterations, count, seconds, core, team, pace)


@dataclass(frozen=True)
class Signs:
    """Involuntary switches per iteration, drift as a share, and each fault in words."""

    involuntary_switches: float | None
    drift: float | None
    faults: tuple[str, ...] = ()


def throttled(
    before: cgroup.Throttling | None, after: cgroup.Throttling | None, seconds: float
) -> str:
    """Say that a CPU quota stopped this process for more than `MAX_STOPPED` of `seconds`, or ""."""
    if before is None or after is None:
        return ""
    found = after - before
    if found.stopped_s <= MAX_STOPPED * seconds:
        return ""
    return (
        f"the CPU quota of the container stopped this process in {found.throttled} of "
        f"{found.periods} periods"
    )


def drift(rounds_s: Sequence[float]) -> float | None:
    """Median of the last third of the rounds over that of the first, less 1; None below six."""
    third = len(rounds_s) // 3
    if third < 2:
        return None
    first, last = statistics.median(rounds_s[:third]), statistics.median(rounds_s[-third:])
    return last / first - 1 if first > 0 else None


def levels(rounds_s: Sequence[float]) -> tuple[float, float] | None:
    """Return the two levels the rounds fall on, or None where they are one cloud.

    The split is the one that leaves the least variance within the groups, on a log scale (Otsu,
    "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979).
    """
    logs = sorted(math.log(seconds) for seconds in rounds_s if seconds > 0)
    fewest = max(2, math.ceil(LEVEL_SHARE * len(logs)))
    if len(logs) < 2 * fewest or len(logs) < 6:
        return None
    total = statistics.pvariance(logs) * len(logs)

    def left(split: int) -> float:
        groups = logs[:split], logs[split:]
        return sum(statistics.pvariance(group) * len(group) for group in groups)

    split = min(range(fewest, len(logs) - fewest + 1), key=left)
    low = math.exp(statistics.median(logs[:split]))
    high = math.exp(statistics.median(logs[split:]))
    if total > 0 and left(split) <= LEVELS_LEAVE * total and high >= LEVELS_APART * low:
        return low, high
    return None


def judge(
    rounds_s: Sequence[float],
    iterations: int,
    switched: int | None,
    seconds: float,
    slow_core: float = 1.0,
    slow_team: float = 1.0,
    slow_pace: float = 1.0,
) -> Signs:
    """Judge the rounds of a cell and what was seen meanwhile.

    `switched` involuntary context switches happened in `seconds` of rounds; the yardsticks took
    `slow_core`, `slow_team` and `slow_pace` times their best.
    """
    faults = []
    each = None if switched is None else switched / (iterations * len(rounds_s))
    if switched is not None and each is not None and switched > MAX_SWITCHES_PER_S * seconds + 5:
        faults.append(
            f"{switched / seconds:.0f} involuntary context switches a second "
            f"({each:.2g} per call): another process shares a core"
        )
    if slow_core >= SLOW_CORE:
        faults.append(
            f"the CPU ran {slow_core:.2g} times slower than at its best of today: "
            "a busy neighbour, or a lower clock"
        )
    if slow_pace >= SLOW_PACE:
        faults.append(
            f"the slowest of the cores in use ran {slow_pace:.2g} times slower than at its best of "
            "today: a busy neighbour of it"
        )
    if slow_team >= SLOW_TEAM:
        faults.append(
            f"the threads took {slow_team:.2g} times as long to meet as at their best of today: "
            "one of their cores is shared, or they were moved apart"
        )
    found = levels(rounds_s)
    if found:
        faults.append(f"rounds fall on {units.seconds(found[0])} and {units.seconds(found[1])}")
    moved = drift(rounds_s)
    if moved is not None and abs(moved) > MAX_DRIFT and not found:
        faults.append(f"the last rounds took {1 + moved:.2f} times as long as the first")
    return Signs(each, moved, tuple(faults))
