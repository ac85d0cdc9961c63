"""Timing: a device with known durations, and the rules by which rounds end."""

import cProfile
import itertools
import statistics

import pytest

from bench.measure import devices, rounds, state
from bench.measure.disturbance import Visit

PLAN = rounds.Plan(min_rounds=8, max_time_s=0.1, min_time_s=0.001)


def loop_of(simulated, seconds, clock=None):
    return rounds.compile_loop(simulated.launch, (seconds,), {}, clock or simulated.device().clock)


@pytest.mark.parametrize("true", [5e-6, 1e-4, 3e-3, 0.2])
def test_a_simulated_device_is_timed_right(simulated, true):
    device = simulated.device()
    timing = rounds.measure(loop_of(simulated, true), PLAN, device.clock_cost())
    assert statistics.median(timing.rounds_s) == pytest.approx(true, rel=0.05)


def test_a_clock_that_does_not_wait_is_caught(simulated):
    waiting = rounds.measure(loop_of(simulated, 1e-3), PLAN)
    dispatch_only = rounds.measure(loop_of(simulated, 1e-3, clock=simulated.now), PLAN)
    assert statistics.median(dispatch_only.rounds_s) == pytest.approx(2e-6)
    assert statistics.median(waiting.rounds_s) == pytest.approx(1e-3, rel=0.05)


def test_the_clock_follows_the_device_of_the_cell(simulated):
    assert devices.find("cpu").is_host
    devices.find("cpu").clock()
    assert simulated.waits == 0
    devices.find("sim").clock()
    assert simulated.waits == 1


def test_clock_and_wait_are_under_one_percent_of_a_round(simulated):
    simulated.wait_s = 100e-6
    device = simulated.device()
    cost = device.clock_cost()
    assert cost == pytest.approx(100e-6)
    timing = rounds.measure(loop_of(simulated, 10e-6), PLAN, cost)
    assert timing.iterations * 10e-6 >= 100 * 100e-6
    assert statistics.median(timing.rounds_s) == pytest.approx(10e-6, rel=0.02)


def scripted(times):
    """A loop whose iterations take the seconds that `times` yields, round by round."""
    source = iter(times)
    return lambda count: count * next(source)


def test_rounds_stop_at_the_precision():
    timing = rounds.measure(scripted(itertools.repeat(1e-3)), PLAN)
    assert len(timing.rounds_s) == PLAN.min_rounds


def test_rounds_stop_at_the_budget_where_times_scatter():
    timing = rounds.measure(scripted(itertools.cycle([1e-3, 2e-3])), PLAN)
    spent = timing.iterations * sum(timing.rounds_s)
    assert PLAN.max_time_s <= spent <= PLAN.max_time_s + timing.iterations * 2e-3


def test_a_slow_operation_gets_the_fewest_rounds_and_one_iteration():
    timing = rounds.measure(scripted(itertools.repeat(1.0)), PLAN)
    assert (len(timing.rounds_s), timing.iterations) == (PLAN.min_rounds, 1)


def test_a_cold_first_call_does_not_ruin_the_calibration():
    timing = rounds.measure(scripted(itertools.chain([0.3], itertools.repeat(1e-6))), PLAN)
    assert timing.iterations >= 1000


def test_the_warm_up_is_bounded():
    spent = []

    def loop(count):
        spent.append(count * 1e-3)
        return spent[-1]

    rounds.measure(loop, PLAN)
    assert sum(spent) <= rounds.WARMUP_S + 0.005 + PLAN.max_time_s


def test_arguments_reach_the_call_by_name_and_place():
    seen = []
    loop = rounds.compile_loop(lambda *a, **k: seen.append((a, k)), (1, 2), {"dim": 3}, lambda: 0.0)
    loop(2)
    assert seen == [((1, 2), {"dim": 3})] * 2


@pytest.mark.parametrize(("call_s", "calls"), [(0.01, 4 + 1), (0.2, 4)])
def test_a_later_visit_of_a_long_call_needs_no_warm_up(call_s, calls):
    made = []

    def loop(count):
        made.append(count)
        return count * call_s

    plan = rounds.Plan(min_rounds=4, max_time_s=0, min_time_s=0.001)
    rounds.measure(loop, plan, earlier=Visit((call_s,), 1))
    assert made == [1] * calls


def test_a_profiler_pauses_during_the_rounds_and_continues_after_them():
    def inside():
        pass

    def after():
        pass

    profile = cProfile.Profile()
    profile.enable()
    try:
        with state.tracers_paused():
            inside()
        after()
    finally:
        profile.disable()
    names = {getattr(one.code, "co_name", "") for one in profile.getstats()}
    assert "after" in names
    assert "inside" not in names


def test_calls_that_were_slow_during_the_calibration_get_rounds_of_the_wanted_length(monkeypatch):
    """Other processes kept the threads waiting: 15 ms a call, then 10 us; both by a known clock."""
    monkeypatch.setattr(rounds, "WARMUP_S", 0.0)
    done = 0

    def loop(count):
        nonlocal done
        seconds = sum(15e-3 if done + n < 5 else 10e-6 for n in range(count))
        done += count
        return seconds

    visit = rounds.measure(loop, rounds.Plan(6, 0.02, 1e-3))
    assert visit.iterations * 10e-6 >= 1e-3
    assert visit.rounds_s == pytest.approx([10e-6] * len(visit.rounds_s))
    assert len(visit.rounds_s) >= 6
