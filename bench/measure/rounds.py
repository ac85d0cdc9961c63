"""Warm-up, calibration and the timed rounds of one cell.

The loop is the one a user would write, with the call inlined; `timeit` compiles it, as it does
for ``torch.utils.benchmark.Timer``, so that both time the same bytecode.
"""

import math
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.measure import devices
from bench.measure.clock import TICKS, BadClock
from bench.stats import quantiles

#: Calibration aims a little over the shortest round: a later, faster call must not fall below it.
HEADROOM = 1.1
#: No start of a library or a kernel takes this long: a call that does is slow, not cold.
COLD_S = 1.0
#: With this share of calm rounds the median of all is still one of the calm ones' (an upper
#: quartile of theirs at the worst), since a disturbance only ever adds time.
MOSTLY_CALM = 0.75
#: Rounds between two looks at the precision; a look costs a sort, outside the timed region.
LOOK_EVERY = 4
#: Seconds that are spent at most on what is timed beside the rounds, where one call is shorter.
BESIDE_S = 0.1
#: From this many rounds on, four times as many that leave the interval wider than this share of
#: what it was are a sign that more do not help: independent rounds would leave half of it.
NO_HELP_FROM, NO_HELP = 64, 0.8

#: A reading of the clock that is not positive is taken again so often at most.
RETAKES = 3
#: A clock that did not advance during calls of this many seconds stands still.
STANDSTILL_S = 0.1

#: Runs `n` calls in a row and returns the seconds they took, the device's work included.
Loop = Callable[[int], float]


@dataclass(frozen=True)
class Plan:
    """When the rounds of a cell end.

    After `min_rounds` rounds, as soon as the 95 % interval of the median is within +-`precision`
    of it, or four times as many rounds have not narrowed it, or `max_time_s` is spent. A round
    takes at least `min_time_s`; the warm-up takes at least `warmup_s` and `warmup_iterations`,
    whatever comes first. `limit_s` ends the rounds of a very slow operation, however few they are.
    """

    min_rounds: int
    max_time_s: float
    min_time_s: float
    precision: float = 0.01
    warmup_s: float = 0.01
    warmup_iterations: int = 1_000_000
    limit_s: float = math.inf

    @property
    def once(self) -> bool:
        """Whether a single call is all that is asked for."""
        return self.min_rounds == 1 and self.max_time_s == 0


@dataclass(frozen=True)
class Timing:
    """Seconds of one iteration in each round, and how many iterations a round had.

    `calm` is False where too few rounds fell into calm moments of the machine.
    """

    rounds_s: tuple[float, ...]
    iterations: int
    calm: bool = True


class Watcher(Protocol):
    """Looks at the machine between rounds; told about how many seconds one iteration takes.

    It turns `late` where it learns in a look that it has not looked at all it should have.
    """

    late: bool

    def begin(self, call_s: float) -> bool:
        """Whether the moment before the first round is calm."""

    def look(self, call_s: float) -> bool:
        """Whether this moment, after a round, is calm."""

    def settle(self, call_s: float) -> bool:
        """Whether it is calm after a wait for that, where one is allowed."""


class _Calm:
    """Sees nothing."""

    late = False

    def begin(self, call_s: float) -> bool:
        return True

    look = settle = begin


CALM = _Calm()


def compile_loop(
    call: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    clock: Callable[[], float],
) -> Loop:
    """Return a loop over ``call(*args, **kwargs)`` with every argument a local variable.

    Unpacking arguments at each call would add some 50 ns, 5 % of a small operation. The garbage
    collector is off while the loop runs, as `timeit` has it.
    """
    names: dict[str, Any] = {"_call": call}
    names |= {f"_arg{i}": value for i, value in enumerate(args)}
    names |= {f"_key_{name}": value for name, value in kwargs.items()}
    inner = [f"arg{i}" for i in range(len(args))] + [f"{name}=key_{name}" for name in kwargs]
    return timeit.Timer(
        stmt=f"call({', '.join(inner)})",
        setup="; ".join(f"{name[1:]} = {name}" for name in names),
        timer=clock,
        globals=names,
    ).timeit


def _calibrate(loop: Loop, plan: Plan, min_time_s: float) -> tuple[int, float]:
    """Warm up; return how many iterations make a round of `min_time_s`, and seconds of one."""
    first = loop(1)
    if first >= max(plan.limit_s / 10, COLD_S):
        return 1, first
    # Perhaps it was cold, and then it is no measure of those that follow.
    iterations, spent, done, best = 1, 0.0, 0, math.inf
    while True:
        iterations, seconds = _longer_than_a_tick(loop, iterations)
        spent += seconds
        done += iterations
        best = min(best, seconds / iterations)
        wanted = math.ceil(min_time_s * HEADROOM / best)
        warm = spent >= plan.warmup_s or done >= plan.warmup_iterations
        if wanted <= iterations and warm:
            return max(1, wanted), best
        # Grow at most tenfold a step: the first, cold calls say little about the warm ones.
        iterations = max(1, min(wanted, 10 * iterations))


def _longer_than_a_tick(loop: Loop, iterations: int) -> tuple[int, float]:
    """Return how many calls, `iterations` at least, the clock can see, and their seconds.

    Raises BadClock where the clock goes back, or does not advance during calls that do take time.
    """
    backwards = 0
    while True:
        started = time.perf_counter()
        if (seconds := loop(iterations)) > 0:
            return iterations, seconds
        backwards += seconds < 0
        if backwards == RETAKES or time.perf_counter() - started > STANDSTILL_S:
            raise BadClock(f"{iterations} calls took {seconds:.3g} s by the clock")
        if seconds == 0:
            iterations *= 10


def _reading(loop: Loop, iterations: int) -> float:
    """Return the seconds of a round, taken again where they are not positive; or BadClock."""
    for _ in range(RETAKES):
        if (seconds := loop(iterations)) > 0:
            return seconds
    raise BadClock(f"{iterations} calls took {seconds:.3g} s by the clock, {RETAKES} times")


def measure(
    loop: Loop,
    plan: Plan,
    clock_cost_s: float = 0.0,
    watcher: Watcher = CALM,
) -> Timing:
    """Warm up, choose the iterations, and time rounds until `plan` says stop.

    `watcher` looks at the machine before the first round and after each, outside the timed region.
    Only rounds between two calm moments count, if there are `plan.min_rounds` of them, and
    otherwise all; which rounds count never depends on how long they took. Raises BadClock.
    """
    # So that reading the clock, and waiting for the device, adds 1 % at most.
    min_time_s = max(plan.min_time_s, TICKS * clock_cost_s)
    iterations, call_s = _calibrate(loop, plan, min_time_s)
    every: list[float] = []
    calm: list[float] = []
    spent = 0.0
    before = watcher.begin(call_s)
    while True:
        seconds = _reading(loop, iterations)
        known = watcher.late
        after = watcher.look(call_s)
        if watcher.late and not known:
            calm.clear()  # nothing vouches for them
            before = False
        every.append(seconds / iterations)
        if before and after:
            calm.append(seconds / iterations)
        spent += seconds
        if _ended(plan, every, calm, spent):
            break
        before = after or watcher.settle(call_s)
    if len(calm) >= min(plan.min_rounds, len(every)):
        return Timing(tuple(calm), iterations)
    return Timing(tuple(every), iterations, calm=len(calm) >= MOSTLY_CALM * len(every))


def _ended(plan: Plan, every: Sequence[float], calm: Sequence[float], spent: float) -> bool:
    """Whether enough rounds have been timed, or more of them would not help."""
    if spent >= plan.limit_s:
        return True
    if len(calm) < plan.min_rounds:
        return len(every) >= plan.min_rounds and spent >= plan.max_time_s
    precise = len(every) % LOOK_EVERY == 0 and quantiles.half_width(calm) <= plan.precision
    return spent >= plan.max_time_s or precise or _no_help(calm)


def _no_help(rounds_s: Sequence[float]) -> bool:
    """Whether the last two doublings of the rounds did not narrow the interval of their median.

    Rounds of one process are correlated: past some number they repeat each other.
    """
    count = len(rounds_s)
    if count < NO_HELP_FROM or count & (count - 1):
        return False
    return quantiles.half_width(rounds_s) > NO_HELP * quantiles.half_width(rounds_s[: count // 4])


def _affordable(call_s: float, most: int, repeats: int) -> int:
    """Return how many calls of `call_s`, one to `most`, fit `repeats` times into `BESIDE_S`."""
    fits = BESIDE_S / repeats / call_s if call_s > 0 else most
    return max(1, min(most, int(fits)))


def device_time(loop: Loop, device: devices.Device, call_s: float = 0.0) -> float | None:
    """Seconds the device itself takes for one call of `call_s`, without gaps between launches.

    The calls are queued while the device is busy with longer work, so that it finds one behind
    the other, and marks in its queue tell when it began and ended them: the median of three (the
    way of nvbench's batch measurement). None where the device has no such marks, or ran dry while
    the calls were still being queued: because they wait for it themselves, or take the host long.
    """
    if device.event is None:
        return None
    for calls in dict.fromkeys((_affordable(call_s, 20, 3), 1)):
        times = []
        for _ in range(3):
            device.synchronize()
            start, end = device.event(), device.event()
            device.long_work()
            start.record()
            loop(calls)
            ran_dry = start.query()
            end.record()
            device.synchronize()
            if ran_dry:
                break
            times.append(start.elapsed_time(end) / 1e3 / calls)
        else:
            return statistics.median(times)
    return None


def dispatch(loop: Loop, synchronize: Callable[[], None], call_s: float = 0.0) -> float | None:
    """Seconds the host needs to hand one call to an asynchronous device: the median of five.

    `loop` has a clock that does not wait. Few calls, so that the device's queue does not fill up
    and make the host wait after all; a single one where each takes long (`call_s`). None where the
    clock cannot see them.
    """
    times = []
    calls = _affordable(call_s, 10, 5)
    for _ in range(5 if 5 * call_s <= BESIDE_S else 1):
        synchronize()
        times.append(loop(calls) / calls)
    synchronize()
    found = statistics.median(times)
    return found if found > 0 else None


def once(loop: Loop) -> Timing:
    """Time one call without warm-up, or as many as the clock needs to see them. Raises BadClock."""
    iterations, seconds = _longer_than_a_tick(loop, 1)
    return Timing((seconds / iterations,), iterations)


def summary(timing: Timing) -> dict[str, float | int | None]:
    """The columns of the CSV that follow from the rounds; seconds of one iteration."""
    rounds = timing.rounds_s
    first, median, third = quantiles.quartiles(rounds)
    interval = quantiles.median_interval(rounds)
    return {
        "rounds": len(rounds),
        "iterations": timing.iterations,
        "min_s": min(rounds),
        "q1_s": first,
        "median_s": median,
        "q3_s": third,
        "max_s": max(rounds),
        "mean_s": statistics.fmean(rounds),
        "stddev_s": statistics.stdev(rounds) if len(rounds) > 1 else None,
        "ci_low_s": interval[0] if interval else None,
        "ci_high_s": interval[1] if interval else None,
    }
