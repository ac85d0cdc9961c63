"""Check that a clock of the host can time calls: its resolution, and that it only advances."""

import time
from collections.abc import Callable

#: Seconds within which a clock must advance, and the longest round that its resolution may need.
EXAMINED_S, LONGEST_ROUND_S = 0.5, 10.0
#: Ticks of the shortest round, so that reading the clock adds an error of 1 % at most.
TICKS = 100
#: Steps that are seen before the smallest one counts as the tick.
_STEPS = 1000


class BadClock(Exception):
    """A clock cannot time a call; the message is one line with what was seen."""


def examine(now: Callable[[], float], watch: Callable[[], float] = time.perf_counter) -> float:
    """Return the tick of the clock `now`, its smallest step in s; `watch` is a clock that works.

    Raises BadClock if `now` goes back, does not advance within `EXAMINED_S`, or is so coarse that
    `TICKS` ticks last longer than `LONGEST_ROUND_S`.
    """
    smallest, steps = float("inf"), 0
    last, end = now(), watch() + EXAMINED_S
    while steps < _STEPS and watch() < end:
        reading = now()
        if reading < last:
            raise BadClock(f"it went back by {last - reading:.3g} s")
        if reading > last:
            smallest, steps = min(smallest, reading - last), steps + 1
        last = reading
    if not steps:
        raise BadClock(f"it did not advance within {EXAMINED_S} s")
    if not TICKS * smallest <= LONGEST_ROUND_S:
        raise BadClock(f"its resolution is {smallest:.3g} s, and a round needs {TICKS} such steps")
    return smallest
