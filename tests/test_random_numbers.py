"""Random numbers: right ones pass in every dtype, others are noticed with a known power."""

import numpy as np
import pytest
import torch

from bench.measure import dtypes, random_numbers
from bench.suite.tensors import bench_creation
from bench.suite.training import bench_networks
from tests.validation import answers

CPU = torch.device("cpu")
LAWS = {"rand": random_numbers.UNIFORM, "randn": random_numbers.NORMAL}
FACTORIES = {"rand": torch.rand, "randn": torch.randn}
#: Breaks that only the numbers of the generator show.
ANY_ORDER = ["one element 10 %", "zero", "reversed"]


def found(law, values, dtype=torch.float32, state=None):
    """Return what the check finds, by default from another state than that of the numbers."""
    state = torch.get_rng_state() if state is None else state
    made = random_numbers.drawn(law, len(values), dtype=dtype, device=CPU)
    return made["check"]((state, values))


@pytest.fixture
def unknown(monkeypatch):
    """Make the generator unknown, as that of an accelerator is."""
    monkeypatch.setattr(random_numbers.Law, "follows", lambda *_: False)


@pytest.mark.parametrize("name", dtypes.NAMES[:4])
@pytest.mark.parametrize("law", LAWS)
def test_right_numbers_are_right_in_every_dtype(law, name, unknown):
    generator, dtype = torch.Generator().manual_seed(3), dtypes.find(name)
    for count in [16, 1_000, 10_000] * 10:
        values = FACTORIES[law](count, generator=generator, dtype=dtype)
        answer = found(LAWS[law], values, dtype)
        assert answer.fault == ""
        assert answer.rel_error <= answer.tolerance


@pytest.mark.parametrize(
    ("count", "factor"), [(4_096, 1.1), (4_096, 0.9), (2**19, 1.01), (2**19, 0.99)]
)
@pytest.mark.parametrize("law", LAWS)
def test_a_scale_is_noticed_without_the_generator_too(law, count, factor, unknown):
    for seed in range(3):
        values = FACTORIES[law](count, generator=torch.Generator().manual_seed(seed))
        assert found(LAWS[law], values * factor).fault


def test_other_distributions_and_repeated_numbers_are_noticed(unknown):
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(1))
    minus, short = values.clone(), torch.cat([values[:-9], values[100:109]])
    minus[7] = -minus[7]
    nan = values * torch.where(torch.arange(100_000) == 9, torch.nan, 1.0)
    faults = {
        "go from -": minus,
        "go from nan": nan,
        "dtype": values.double(),
        "distribution": torch.where(values < 0.5, 0.2113, 0.7887),
        "neighbours": values.sort().values,
        "repeat": torch.cat([values, values]),
        "themselves": short,
    }
    for fault, wrong in faults.items():
        answer = found(random_numbers.UNIFORM, wrong)
        assert fault in answer.fault, fault
        assert answer.rel_error is None or answer.rel_error == answer.rel_error


def test_two_calls_give_different_numbers(unknown):
    check = random_numbers.drawn(random_numbers.UNIFORM, 100, dtype=torch.float32, device=CPU)[
        "check"
    ]
    given = torch.get_rng_state(), torch.rand(100, generator=torch.Generator().manual_seed(1))
    assert [check(given).fault for _ in range(2)] == ["", "the random numbers repeat themselves"]


@pytest.mark.parametrize("name", dtypes.NAMES[:4])
@pytest.mark.parametrize("law", LAWS)
def test_the_numbers_follow_the_generator(law, name):
    state, dtype = torch.get_rng_state(), dtypes.find(name)
    values = FACTORIES[law](4_096, dtype=dtype)
    if not LAWS[law].follows(state, dtype):
        pytest.skip("this version of PyTorch makes its numbers otherwise")
    assert found(LAWS[law], values, dtype, state).fault == ""
    values[9] *= 1.1
    assert found(LAWS[law], values, dtype, state).fault


@pytest.mark.parametrize("name", [*ANY_ORDER, "all 1 %", "NaN", "row", "stale"])
@pytest.mark.parametrize("body", [bench_creation.bench_rand, bench_creation.bench_randn])
def test_breaks_of_single_numbers_are_noticed(body, name):
    assert answers.seen(body, "float32", {"n": 4_096}, "") == ""
    assert answers.seen(body, "float32", {"n": 4_096}, name) != ""


def test_a_value_that_dropout_must_keep_is_not_lost():
    for name in ("zero", "row", "reversed"):
        assert answers.seen(bench_networks.bench_dropout, "float32", {"n": 4_096}, name) != ""


def test_dropout_on_an_unknown_generator_has_its_share():
    x = torch.ones(4_096)
    drawn = np.random.default_rng(1).random(4_096)
    runs = np.repeat(drawn[:256], 16)
    for numbers, p, right in ((drawn, 0.5, True), (drawn, 0.6, False), (runs, 0.5, False)):
        given = torch.get_rng_state(), torch.from_numpy(numbers >= p).float() * 2
        fault = random_numbers.dropped()(given, x, 0.5).fault
        assert ("generator" in fault) if right else ("share" in fault)


def test_dropout_of_the_same_numbers_in_each_call_is_wrong():
    check, x = random_numbers.dropped(), torch.ones(4_096)
    state = torch.get_rng_state()
    same = torch.nn.functional.dropout(x, 0.5)
    assert check((state, same), x, 0.5).fault == ""
    assert "repeated" in check((state, same), x, 0.5).fault
