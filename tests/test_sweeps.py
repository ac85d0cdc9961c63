"""Ratios of two sides, and where they pass 1 along a size."""

import math

import pytest

from bench.compare import estimates
from bench.verdicts import crossover


def estimate(*medians):
    return estimates.Estimate(medians, None, None, "ok")


def test_a_ratio_of_runs_is_that_of_welch():
    """Figures of scipy.stats.ttest_ind(equal_var=False) on the logarithms."""
    from scipy import stats

    a, b = (1.1, 1.15, 1.12, 1.2), (1.0, 1.02, 0.97, 1.01, 0.99)
    found = estimates.ratio(estimate(*a), estimate(*b))
    theirs = stats.ttest_ind([math.log(x) for x in a], [math.log(x) for x in b], equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert math.log(found.low) == pytest.approx(interval.low)
    assert math.log(found.high) == pytest.approx(interval.high)
    assert found.significant


def of_sessions(medians, sessions):
    return estimates.Estimate(medians, None, None, "ok", sessions=sessions)


def test_runs_of_other_sessions_differ_by_more_than_their_noise():
    """Runs within 0.1 % of each other, of which those of another session are 1.5 % slower."""
    near = tuple(1 + 0.001 * (n % 2) for n in range(10))
    here, there = of_sessions(near, (0,) * 10), tuple(1.015 * x for x in near)
    assert estimates.ratio(of_sessions(there, (0,) * 10), here).significant
    assert not estimates.ratio(of_sessions(there, (1,) * 10), here).significant
    much = tuple(1.1 * x for x in near)
    assert estimates.ratio(of_sessions(much, (1,) * 10), here).significant


def test_several_sessions_show_how_much_they_differ():
    """Each side has five sessions of two runs; those of the first pair agree to 0.1 %."""
    wide = []
    for gap in (0.001, 0.05):
        level = [(1 + gap * (n // 2 % 2)) * (1 + 0.001 * (n % 2)) for n in range(10)]
        sides = (of_sessions(tuple(level), tuple(k + n // 2 for n in range(10))) for k in (0, 5))
        wide.append(estimates.ratio(*sides).high)
    assert wide[0] < 1.02 < wide[1]


def test_a_number_that_all_runs_share_has_no_noise_of_sessions():
    found = estimates.ratio(of_sessions((1.01,) * 3, (0,) * 3), of_sessions((1.0,) * 3, (1,) * 3))
    assert found.significant


def test_a_single_run_must_differ_by_more_than_the_noise():
    assert not estimates.ratio(estimate(1.14), estimate(1.0)).significant
    assert estimates.ratio(estimate(1.16), estimate(1.0)).significant
    assert estimates.ratio(estimate(1.0), estimates.Estimate((), None, None, "wrong")) is None


def test_equal_runs_have_a_ratio_of_one():
    found = estimates.ratio(estimate(1.0, 1.0), estimate(1.0, 1.0))
    assert (found.value, found.significant) == (1.0, False)


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ({1: 2.0, 2: 2.0}, "too few"),
        ({1: 2.0, 2: 2.0, 4: 2.0}, "never"),
        ({1: 0.5, 2: 0.5, 4: 0.5}, "always"),
        ({1: 1.0, 2: 1.0, 4: 1.0}, "unclear"),
        ({1: 2.0, 2: 0.5, 4: 2.0}, "unclear"),
    ],
)
def test_what_is_no_crossover_is_called_by_its_name(logs, expected):
    side = {size: estimate(value) for size, value in logs.items()}
    base = dict.fromkeys(side, estimate(1.0))
    assert crossover.crossover(side, base) == expected


def test_a_ratio_that_passes_1_by_chance_is_no_crossover():
    ratios = {1: 0.98, 4: 2.0, 16: 0.5, 64: 0.25}
    side = {size: estimate(value) for size, value in ratios.items()}
    found = crossover.crossover(side, dict.fromkeys(side, estimate(1.0)))
    assert found.size == pytest.approx(8)
    assert found.faster_above
    assert (found.low, found.high) == (4, 16)


def test_a_side_that_falls_behind_is_found():
    side = {1: estimate(0.5), 4: estimate(0.5), 16: estimate(2.0)}
    found = crossover.crossover(side, dict.fromkeys(side, estimate(1.0)))
    assert found.size == pytest.approx(8)
    assert not found.faster_above
