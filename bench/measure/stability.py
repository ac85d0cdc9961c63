"""What betrays that a cell was disturbed while its rounds were timed."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

try:
    import resource
except ImportError:  # Windows counts no context switches for a process
    resource = None  # type: ignore[assignment]

#: Involuntary context switches a second that are more than a quiet machine's housekeeping: the
#: runs behind docs/method.md had 30 to 40 when quiet, and 125 or more with a neighbour on a core.
MAX_SWITCHES_PER_S = 100
#: Change from the first to the last third of the rounds that is more than their noise.
MAX_DRIFT = 0.10
#: Two groups of rounds are two levels where the upper is this many times the lower, ...
LEVELS_APART = 1.5
#: ... each holds this share of the rounds, ...
LEVEL_SHARE = 0.2
#: ... and both together leave this share of the variance (1 - Otsu's criterion).
LEVELS_LEAVE = 0.1
#: The yardstick takes this many times its best: another tenant has the core's execution units.
SLOW_CPU = 1.3


class Yardstick:
    """A fixed piece of interpreter work, some 20 us, whose time varies with the CPU alone.

    It tells, beside any round, whether the core just then runs at its best: another tenant on the
    same physical core, or a lower clock, makes it up to twice as long, and nothing else shows that.
    """

    def __init__(self) -> None:
        """Find the best time of many tries."""
        self.best_s = math.inf
        for _ in range(2000):
            self.read()

    def _take(self) -> float:
        start = time.perf_counter()
        total = 0
        for number in range(400):
            total += number
        return time.perf_counter() - start

    def read(self) -> float:
        """Return how many times its best it takes now: the quickest of three.

        The first finds the caches as the timed operation left them, which says nothing of the
        neighbours: after one that streams 100 MB it would always be slow.
        """
        seconds = min(self._take() for _ in range(3))
        self.best_s = min(self.best_s, seconds)
        return seconds / self.best_s


def switches() -> int | None:
    """Involuntary context switches of this process so far, where the platform counts them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else None


@dataclass
class Watch:
    """Looks at the machine before the rounds, between them and after; never inside one."""

    yardstick: Yardstick
    started: float = field(default_factory=time.perf_counter)
    switched: int | None = field(default_factory=switches)
    slowness: list[float] = field(default_factory=list)

    def calm(self) -> bool:
        """Whether the core runs at its best just now, between two rounds."""
        self.slowness.append(self.yardstick.read())
        return self.slowness[-1] < SLOW_CPU

    def signs(self, rounds_s: Sequence[float], iterations: int, calm: bool) -> "Signs":
        """What was seen, judged; `calm` where the rounds are those of calm moments alone."""
        now = switches()
        count = None if now is None or self.switched is None else now - self.switched
        seconds = time.perf_counter() - self.started
        slow = 1.0 if calm or not self.slowness else max(statistics.fmean(self.slowness), SLOW_CPU)
        return judge(rounds_s, iterations, count, seconds, slow)


@dataclass(frozen=True)
class Signs:
    """Involuntary switches per iteration, drift as a share, and each fault in words."""

    involuntary_switches: float | None
    drift: float | None
    faults: tuple[str, ...] = ()


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


def _seconds(value: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def judge(
    rounds_s: Sequence[float],
    iterations: int,
    switched: int | None,
    seconds: float,
    slow: float = 1.0,
) -> Signs:
    """Judge the rounds of a cell and what was seen meanwhile.

    `switched` involuntary context switches happened in `seconds` of rounds; the yardstick took
    `slow` times its best.
    """
    faults = []
    each = None if switched is None else switched / (iterations * len(rounds_s))
    if switched is not None and each is not None and switched > MAX_SWITCHES_PER_S * seconds + 5:
        faults.append(
            f"{switched / seconds:.0f} involuntary context switches a second "
            f"({each:.2g} per call): another process shares a core"
        )
    if slow >= SLOW_CPU:
        faults.append(
            f"the CPU ran {slow:.2g} times slower than at its best in this run: "
            "a busy neighbour, or a lower clock"
        )
    found = levels(rounds_s)
    if found:
        faults.append(f"rounds fall on {_seconds(found[0])} and {_seconds(found[1])}")
    moved = drift(rounds_s)
    if moved is not None and abs(moved) > MAX_DRIFT and not found:
        faults.append(f"the last rounds took {1 + moved:.2f} times as long as the first")
    return Signs(each, moved, tuple(faults))
