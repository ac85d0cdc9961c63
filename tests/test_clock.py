"""Clocks that are coarse, stand still or go back: refused, or timed around; never a wrong row."""

import itertools
import math
import time

import pytest

from bench.measure import clock, rounds
from bench.measure.clock import BadClock

PLAN = rounds.Plan(min_rounds=3, max_time_s=0.01, min_time_s=0.0)


def coarse(tick, now=time.perf_counter):
    return lambda: math.floor(now() / tick) * tick


def test_the_tick_is_the_smallest_step():
    steps = itertools.count()
    assert clock.examine(lambda: next(steps) // 3 * 2**-10, lambda: 0.0) == 2**-10


def test_a_windows_clock_is_found_coarse():
    tick = clock.examine(coarse(0.0156))
    assert tick == pytest.approx(0.0156, rel=0.01)


def test_a_standing_clock_is_refused():
    with pytest.raises(BadClock, match="did not advance"):
        clock.examine(lambda: 5.0)


def test_a_clock_that_goes_back_is_refused():
    readings = itertools.chain([1.0, 2.0], itertools.repeat(1.5))
    with pytest.raises(BadClock, match=r"back by 0\.5 s"):
        clock.examine(lambda: next(readings))


def test_a_clock_of_whole_seconds_is_refused():
    fake = itertools.count()
    with pytest.raises(BadClock, match="resolution is 1 s"):
        clock.examine(lambda: next(fake) // 4, lambda: 0.0)


def scripted(seconds):
    """A loop that takes what `seconds(iterations)` returns, and no real time."""
    return lambda iterations: seconds(iterations)


def test_a_call_shorter_than_a_tick_gets_more_iterations():
    call, tick = 1e-6, 0.0156
    timing = rounds.measure(scripted(lambda n: math.floor(n * call / tick) * tick), PLAN, tick)
    assert timing.iterations * call >= clock.TICKS * tick
    assert timing.rounds_s[0] == pytest.approx(call, rel=0.02)


def test_a_single_call_shorter_than_a_tick_has_a_time():
    call, tick = 1e-6, 0.0156
    timing = rounds.once(scripted(lambda n: math.floor(n * call / tick) * tick))
    assert timing.iterations > 1
    assert timing.rounds_s[0] > 0


def test_a_clock_that_stops_later_ends_the_cell(monkeypatch):
    monkeypatch.setattr(rounds, "STANDSTILL_S", 0.0)
    for time_it in (lambda loop: rounds.measure(loop, PLAN), rounds.once):
        with pytest.raises(BadClock, match="took 0 s by the clock"):
            time_it(scripted(lambda n: 0.0))


def test_a_round_that_went_back_is_taken_again():
    taken = []

    def seconds(n):
        taken.append(n)
        return -1.0 if len(taken) in (4, 6) else n * 1e-3

    timing = rounds.measure(scripted(seconds), PLAN)
    assert min(timing.rounds_s) > 0
    assert len(taken) > 6


def test_rounds_that_always_go_back_end_the_cell():
    with pytest.raises(BadClock):
        rounds.measure(scripted(lambda n: -1e-3), PLAN)


def test_the_option_refuses_such_a_clock_in_one_line(suite):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    suite.pytester.makepyfile(standing="def now():\n    return 5.0\n")
    suite.pytester.syspathinsert()
    done = suite.run("--benchmark-timer", "standing.now")
    assert done.ret == 4
    done.stderr.fnmatch_lines(["*--benchmark-timer: now cannot time a call: it did not advance*"])
    assert not suite.files()
