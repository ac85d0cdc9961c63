"""What two sides' runs say of each other, on runs whose truth is known."""

import dataclasses
import math
import random
import statistics

import numpy as np
import pytest
from scipy.stats import ttest_ind

from bench.stats import levels, moderated
from bench.stats.moderated import Pair


def cell(number=0):
    return ("", "op", "cpu", "float32", f"n={number}")


def normal(source, count, sd, shift=0.0):
    return tuple(source.gauss(shift, sd) for _ in range(count))


def test_of_few_runs_it_is_students_test():
    source = random.Random(1)
    base, new = normal(source, 4, 0.02), normal(source, 4, 0.02, 0.05)
    pair = Pair(cell(), base, new)
    other = ttest_ind(new, base, alternative="greater")
    assert pair.p_above(0.0, 1) == pytest.approx(other.pvalue)
    assert pair.degrees == 6


def test_of_five_runs_it_is_that_of_trimmed_means():
    source = random.Random(2)
    base, new = normal(source, 5, 0.02), normal(source, 5, 0.02, 0.05)
    pair = Pair(cell(), base, new)
    other = ttest_ind(new, base, alternative="greater", trim=0.2)
    assert pair.difference == pytest.approx(
        statistics.fmean(sorted(new)[1:4]) - statistics.fmean(sorted(base)[1:4])
    )
    assert pair.p_above(0.0, 1) == pytest.approx(other.pvalue)


def test_only_a_side_with_an_outlier_is_trimmed():
    source = random.Random(10)
    plain = [Pair(cell(n), normal(source, 5, 0.02), normal(source, 5, 0.02)) for n in range(40)]
    base, new = plain[0].base, plain[0].new
    found = moderated.moderated([dataclasses.replace(plain[0], new=(*new[:4], 0.5)), *plain[1:]])
    assert [side.kept for side in found[0].sides] == [5, 3]
    assert found[0].sides[0].mean == statistics.fmean(base)
    assert all(side.kept == 5 for pair in found[1:] for side in pair.sides)
    # Without an outlier it is a t test of means, with what the other cells add.
    assert found[1].own_variance == pytest.approx(
        statistics.fmean(map(statistics.variance, (found[1].base, found[1].new)))
    )


@pytest.mark.parametrize("side", [0, 1])
def test_one_slow_run_neither_makes_nor_hides_a_change(side):
    sides = [[0.0, 0.001, 0.002, -0.001, -0.002], [0.1, 0.101, 0.102, 0.099, 0.098]]
    sides[side][3] += 1.0
    pair = Pair(cell(), *map(tuple, sides))
    assert pair.difference == pytest.approx(0.1, abs=0.002)
    assert pair.p_above(math.log(1.02), 1) < 1e-4
    same = Pair(cell(), tuple(sides[0]), tuple(y - 0.1 for y in sides[1]))
    assert same.p_above(0.0, 1) > 0.1


def test_the_prior_is_that_of_the_variances_drawn():
    """Variances from a scaled inverse chi-squared distribution with 8 degrees and scale 4e-4."""
    source = np.random.default_rng(5)
    variances = 4e-4 * 8 / source.chisquare(8, 4000)
    pairs = [
        Pair(cell(n), *(tuple(source.normal(0, math.sqrt(v), 3)) for _ in range(2)))
        for n, v in enumerate(variances)
    ]
    found = moderated.moderated(pairs)
    assert found[0].priors[0].degrees == pytest.approx(8, rel=0.2)
    assert found[0].priors[0].variance == pytest.approx(4e-4, rel=0.1)
    assert found[0].degrees == found[0].own_degrees + found[0].priors[0].degrees
    low, high = sorted((pairs[0].own_variance, found[0].priors[0].variance))
    assert low < found[0].error ** 2 * 3 / 2 < high
    # Its p-values are those of a test: below 5 % in 5 % of unchanged cells.
    alarms = sum(pair.p_above(0.0, 1) < 0.05 for pair in found)
    assert 0.04 < alarms / len(found) < 0.06


def test_cells_of_one_variance_share_it():
    source = random.Random(3)
    pairs = [Pair(cell(n), normal(source, 3, 0.02), normal(source, 3, 0.02)) for n in range(40)]
    found = moderated.moderated(pairs)
    assert found[0].priors[0].degrees > 20
    assert found[0].error * math.sqrt(3 / 2) == pytest.approx(0.02, rel=0.2)


def test_few_cells_and_cells_without_noise_have_no_prior():
    source = random.Random(4)
    few = [Pair(cell(n), normal(source, 5, 0.02), normal(source, 5, 0.02)) for n in range(9)]
    assert moderated.moderated(few) == few
    constant = [Pair(cell(n), (0.0,) * 5, (0.0,) * 5) for n in range(40)]
    assert moderated.moderated(constant) == constant
    assert moderated.moderated([]) == []
    assert moderated.moderated(constant)[0].p_above(0.0, 1) == 1.0


def test_one_cell_without_noise_borrows_some():
    source = random.Random(6)
    pairs = [Pair(cell(n), normal(source, 5, 0.02), normal(source, 5, 0.02)) for n in range(40)]
    pairs.append(Pair(cell(40), (0.0,) * 5, (0.03,) * 5))
    assert moderated.moderated(pairs)[-1].error > 0


@pytest.mark.parametrize("value", [1e-6, 0.01, 1.0, 30.0, 1e6])
def test_the_trigamma_function_is_inverted(value):
    from scipy.special import polygamma

    place = moderated._trigamma_inverse(value)
    assert polygamma(1, place) == pytest.approx(value, rel=1e-6)


def suite(source, runs, noise, cells=60):
    """Cells of several kinds of noise; that of the new side is `noise` times as large."""
    kinds = [(0.005, 0.01, 0.03)[n % 3] for n in range(cells)]
    return moderated.moderated(
        [
            Pair(cell(n), normal(source, runs[0], sd), normal(source, runs[1], noise * sd))
            for n, sd in enumerate(kinds)
        ]
    )


@pytest.mark.parametrize(("runs", "noise"), [((20, 3), 3.0), ((5, 5), 4.0), ((3, 20), 1.0)])
def test_sides_that_are_not_alike_are_not_pooled(runs, noise):
    """Of 40 suites of 60 cells, two at most in which one is called 2 % slower at least."""
    source = random.Random(7)
    alarms = 0
    for _ in range(40):
        pairs = suite(source, runs, noise)
        assert all(len(pair.priors) == 2 for pair in pairs)
        alarms += min(pair.p_above(0.02, 1) for pair in pairs) < 0.05 / len(pairs)
    assert alarms <= 2


def test_the_noise_between_sessions_is_seen_in_the_differences():
    source = random.Random(8)
    pairs = suite(source, (5, 5), 1.0, cells=200)
    assert moderated.between(pairs) == 0
    moved = [dataclasses.replace(p, shift=source.gauss(0, 0.03)) for p in pairs]
    assert math.sqrt(moderated.between(moved)) == pytest.approx(0.03, rel=0.25)
    assert moderated.between(moved[:9]) == 0
    assert moderated.between([]) == 0


def test_two_levels_are_seen_where_a_side_has_both():
    low, high = (0.0, 0.001, -0.001), (0.14, 0.141, 0.139)
    found = levels.find((*low, high[0]), (*high, low[0]))
    assert (found.low, found.high) == pytest.approx((0.0, 0.14), abs=1e-3)
    assert found.share == 0.5
    assert levels.find(low, high) is None
    assert levels.find(low) is None
    source = random.Random(9)
    seen = [levels.find(normal(source, 5, 0.02), normal(source, 5, 0.02)) for _ in range(200)]
    assert sum(map(bool, seen)) <= 10


def test_the_chance_of_a_separation_is_that_of_coins():
    assert levels.chance(5, 5, 0) == pytest.approx(2**-10)
    assert levels.chance(5, 5, 1) == pytest.approx(11 * 2**-10)
    assert levels.chance(3, 20, 0) < levels.chance(3, 3, 0) == pytest.approx(2**-6)
    assert levels.weight(levels.Levels(0, 1, 0.5), 5, 5) == pytest.approx(1)
    assert levels.weight(levels.Levels(0, 1, 0.1), 5, 5) < 0.01
    assert levels.runs_needed(20, 0.04) == 5
