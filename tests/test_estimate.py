"""Quartiles and the interval of the median."""

import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import quantiles

samples = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60)


@given(samples)
def test_quartiles_are_those_of_numpy(sample):
    assert quantiles.quartiles(sample) == pytest.approx(np.quantile(sample, [0.25, 0.5, 0.75]))


@pytest.mark.parametrize(
    # Ranks from Conover's table of the binomial with p = 1/2, two-sided 95 %.
    ("count", "rank"),
    [(5, None), (6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (30, 10), (50, 18)],
)
def test_interval_is_at_the_tabled_ranks(count, rank):
    interval = quantiles.median_interval(list(range(1, count + 1)))
    assert interval == (None if rank is None else (rank, count + 1 - rank))


def test_interval_covers_the_true_median():
    source = random.Random(5)
    hits = 0
    for _ in range(2000):
        low, high = quantiles.median_interval([source.lognormvariate(0, 1) for _ in range(15)])
        hits += low <= 1.0 <= high
    assert 0.94 <= hits / 2000 <= 0.985


@given(samples.filter(lambda s: len(s) >= 6))
def test_interval_encloses_the_median(sample):
    low, high = quantiles.median_interval(sample)
    assert low <= statistics.median(sample) <= high
