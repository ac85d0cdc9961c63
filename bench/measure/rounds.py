"""Warm-up, calibration and the timed rounds of one cell.

The loop is the one a user would write, with the call inlined. `timeit` compiles it, as it does
for ``torch.utils.benchmark.Timer``, so both time the same bytecode.
"""

import math
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure import devices
from bench.measure.clock import TICKS, BadClock
from bench.measure.disturbance import DisturbanceMonitor, Visit
from bench.stats import quantiles

#: Calibration aims above the shortest round, so that later, faster calls still reach it.
HEADROOM = 1.1
#: The warm-up of the first visit lasts so many seconds or calls, whichever comes first.
WARMUP_S, WARMUP_CALLS = 0.01, 1_000_000
#: Length of the warm-up of a later visit: caches are cold again, code is not. A call this many
#: times longer needs none.
REVISIT_WARMUP_S, SLOW = 0.004, 5
#: Rounds between two checks of the precision; a check costs a sort, outside the timed region.
CHECK_EVERY = 4
#: Seconds to spend at most on the device time and on the dispatch time, if one call is shorter.
EXTRA_S = 0.1
#: From this many rounds on, more do not help if four times as many leave the interval wider than
#: this share of its width: independent rounds would halve it.
NO_HELP_FROM, NO_HELP = 64, 0.8
#: A round of less than this share of its length is taken again, with more iterations.
TOO_SHORT = 0.5
#: Attempts at most for a round whose time is not positive.
RETAKES = 3
#: A clock that did not advance during calls of this many seconds is broken.
STANDSTILL_S = 0.1

#: Runs `n` calls in a row and returns their seconds, the device's work included.
Loop = Callable[[int], float]


@dataclass(frozen=True)
class Plan:
    """When the rounds of a cell end.

    They end after `min_rounds` rounds, as soon as the 95 % interval of the median is within
    +-`precision` of it, or four times as many rounds have not narrowed it, or `max_time_s` has
    passed. A round takes at least `min_time_s`. `limit_s` ends the rounds of a very slow operation
    even before `min_rounds`.
    """

    min_rounds: int
    max_time_s: float
    min_time_s: float
    precision: float = 0.01
    limit_s: float = math.inf

    @property
    def once(self) -> bool:
        """Whether the plan asks for a single call."""
        return self.min_rounds == 1 and self.max_time_s == 0


def compile_loop(
    call: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    clock: Callable[[], float],
) -> Loop:
    """Return a loop over ``call(*args, **kwargs)`` with every argument as a local variable.

    Unpacking arguments at each call would add some 50 ns, 5 % of a small operation. `timeit` turns
    the garbage collector off while the loop runs.
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


def prepared(
    operation: Callable[..., Any],
    prepare: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    clock: Callable[[], float],
    cost_s: float,
) -> Loop:
    """Return a loop that prepares each call outside of its time, without the cost of the clock."""

    def loop(count: int) -> float:
        total = 0.0
        for _ in range(count):
            prepare(*args, **kwargs)
            start = clock()
            operation(*args, **kwargs)
            total += clock() - start
        return max(total - count * cost_s, 0.1 * total)

    return loop


def _calibrate(loop: Loop, min_time_s: float) -> int:
    """Warm up; return the iterations of a round of `min_time_s`."""
    if loop(1) >= max(WARMUP_S, min_time_s):
        return 1  # it was the warm-up
    # The first call may be cold, so its time does not count.
    iterations, spent, done, best = 1, 0.0, 0, math.inf
    while True:
        iterations, seconds = _longer_than_a_tick(loop, iterations)
        spent += seconds
        done += iterations
        best = min(best, seconds / iterations)
        wanted = math.ceil(min_time_s * HEADROOM / best)
        warm = spent >= WARMUP_S or done >= WARMUP_CALLS
        if wanted <= iterations and warm:
            return max(1, wanted)
        # At most ten times more per step: cold calls say little about warm ones.
        iterations = max(1, min(wanted, 10 * iterations))


def _longer_than_a_tick(loop: Loop, iterations: int) -> tuple[int, float]:
    """Return how many calls, at least `iterations`, the clock can resolve, and their seconds.

    Raises BadClock if the clock goes back, or does not advance during calls that take time.
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
    """Return the seconds of a round; repeat it if they are not positive. Raises BadClock."""
    for _ in range(RETAKES):
        if (seconds := loop(iterations)) > 0:
            return seconds
    raise BadClock(f"{iterations} calls took {seconds:.3g} s by the clock, {RETAKES} times")


def _warm_up(loop: Loop, iterations: int, monitor: DisturbanceMonitor) -> None:
    """Run until caches are warm, and threads that an earlier operation has left spinning sleep."""
    spent = 0.0
    while spent < REVISIT_WARMUP_S:
        spent += max(loop(iterations), 0.0) or REVISIT_WARMUP_S
    if not monitor.parallel:
        monitor.let_sleep(lambda: loop(iterations))


def measure(
    loop: Loop,
    plan: Plan,
    clock_cost_s: float = 0.0,
    monitor: DisturbanceMonitor | None = None,
    earlier: Visit | None = None,
) -> Visit:
    """Warm up, choose the iterations, and time rounds until `plan` ends them.

    `monitor` observes the machine before the first round and after each, outside the timed region.
    After an `earlier` visit, the warm-up is short, and the iterations are the same. Raises
    BadClock.
    """
    # Reading the clock, and waiting for the device, then adds 1 % at most.
    min_time_s = max(plan.min_time_s, TICKS * clock_cost_s)
    monitor = monitor or DisturbanceMonitor()
    if earlier is None:
        with monitor.first_warm_up():
            iterations = _calibrate(loop, min_time_s)
    else:
        iterations, monitor.parallel = earlier.iterations, earlier.parallel
        if statistics.median(earlier.rounds_s) < SLOW * REVISIT_WARMUP_S:
            _warm_up(loop, iterations, monitor)
    rounds_s: list[float] = []
    spent, restarts = 0.0, 0
    monitor.begin()
    while not _ended(plan, rounds_s, spent):
        seconds = _reading(loop, iterations)
        monitor.after_round(seconds)
        spent += seconds
        if seconds < TOO_SHORT * min_time_s and restarts < RETAKES:
            # The calls were slow during the calibration: other processes kept the threads waiting.
            iterations = math.ceil(min_time_s * HEADROOM * iterations / seconds)
            restarts += 1
            rounds_s.clear()
            monitor.stolen.clear()
        else:
            rounds_s.append(seconds / iterations)
    return monitor.visit(rounds_s, iterations)


def _ended(plan: Plan, rounds_s: Sequence[float], spent: float) -> bool:
    """Return whether enough rounds were timed, or more would not help."""
    if spent >= plan.limit_s and rounds_s:
        return True
    if len(rounds_s) < plan.min_rounds:
        return False
    precise = len(rounds_s) % CHECK_EVERY == 0 and quantiles.half_width(rounds_s) <= plan.precision
    return spent >= plan.max_time_s or precise or _no_help(rounds_s)


def _no_help(rounds_s: Sequence[float]) -> bool:
    """Return whether the last two doublings of the rounds did not narrow their interval.

    Rounds of one process are correlated: from some number on, more add no information.
    """
    count = len(rounds_s)
    if count < NO_HELP_FROM or count & (count - 1):
        return False
    return quantiles.half_width(rounds_s) > NO_HELP * quantiles.half_width(rounds_s[: count // 4])


def _affordable(call_s: float, most: int, repeats: int) -> int:
    """Return how many calls of `call_s`, one to `most`, fit `repeats` times into `EXTRA_S`."""
    fits = EXTRA_S / repeats / call_s if call_s > 0 else most
    return max(1, min(most, int(fits)))


def device_time(loop: Loop, device: devices.Device, call_s: float = 0.0) -> float | None:
    """Return the device's own seconds for one call of `call_s`, without gaps between launches.

    The calls are queued while the device is busy with longer work, so that it runs them without
    gaps, and events in its queue mark their start and end: the median of three, as in nvbench's
    batch measurement. None if the device has no events, or became idle while the calls were being
    queued: because they wait for it themselves, or take the host long.
    """
    if device.event is None:
        return None
    for calls in dict.fromkeys((_affordable(call_s, 20, 3), 1)):
        times: list[float] = []
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
    """Return the host's seconds to launch one call on an asynchronous device: median of five.

    The clock of `loop` does not wait for the device. The calls are few, so that the device's queue
    does not fill up and make the host wait; one alone if each takes long (`call_s`). None if the
    clock cannot resolve them.
    """
    times = []
    calls = _affordable(call_s, 10, 5)
    for _ in range(5 if 5 * call_s <= EXTRA_S else 1):
        synchronize()
        times.append(loop(calls) / calls)
    synchronize()
    found = statistics.median(times)
    return found if found > 0 else None


def once(loop: Loop) -> Visit:
    """Time one call without warm-up, or as many as the clock can resolve. Raises BadClock."""
    iterations, seconds = _longer_than_a_tick(loop, 1)
    return Visit((seconds / iterations,), iterations, single=True)
