"""Is a host clock fit to time with? Its resolution, and whether it advances and never goes back."""

import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds within which a clock must advance, and the longest round that its resolution may demand.
EXAMINED_S, LONGEST_ROUND_S = 0.5, 10.0
#: A round lasts at least this many ticks, so that reading the clock adds an error of 1 % at most.
TICKS = 100
#: Steps that are seen before the smallest one counts as the tick.
_STEPS = 1000


class BadClock(Exception):
    """A clock cannot time a call; the message says in one line what was seen."""


@dataclass(frozen=True)
class Tick:
    """The resolution of a clock in seconds: its smallest step."""

    seconds: float

    @property
    def round_s(self) -> float:
        """The shortest round that this clock times well enough, in seconds."""
        return TICKS * self.seconds


def examine(now: Callable[[], float], watch: Callable[[], float] = time.perf_counter) -> Tick:
    """Read `now` in a loop and return its tick; `watch` is a clock that is known to work.

    Raises BadClock where `now` goes back, does not advance within `EXAMINED_S`, or is so coarse
    that a round of `TICKS` ticks would last longer than `LONGEST_ROUND_S`.
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
    tick = Tick(smallest)
    if not tick.round_s <= LONGEST_ROUND_S:
        raise BadClock(
            f"its resolution is {smallest:.3g} s, so that a round of {TICKS} ticks would last "
            f"{tick.round_s:.3g} s"
        )
    return tick
