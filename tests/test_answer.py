"""The answer check: what is right, what is wrong, and what a copy must keep."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bench.measure import answer, dtypes
from bench.measure.answer import Answer, WrongAnswer
from bench.measure.cell import Cell
from bench.measure.devices import find


def cell_of(dtype=torch.float32):
    return Cell(find("cpu"), dtype, plan=None)


@pytest.mark.parametrize("name", dtypes.NAMES)
def test_every_dtype_has_ordinary_data(name):
    data = cell_of(dtypes.find(name)).tensor(3, 50_000).to(torch.float64)
    assert data.isfinite().all()
    assert data.std() > 0
    if name != "bool":
        assert data.abs().min() >= 0.5


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("n", [8, 512])
def test_a_right_product_is_within_tolerance(name, n):
    cell = cell_of(dtypes.find(name))
    cell(torch.matmul, cell.tensor(n, n), cell.tensor(n, n), terms=n)
    assert 0 <= cell.result.answer.rel_error <= cell.result.answer.tolerance


def test_tolerance_follows_from_the_dtype():
    values = [dtypes.tolerance(dtypes.find(n)) for n in ("float64", "float32", "float16")]
    assert values == sorted(values)
    assert dtypes.tolerance(torch.bfloat16) > dtypes.tolerance(torch.float16)
    assert dtypes.tolerance(torch.int32) == dtypes.tolerance(torch.bool) == 0


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int32", "bool"])
def test_one_wrong_element_is_found(name):
    # Integers and bool are computed alike on the reference: let the first call alone be wrong.
    calls = []

    def operation(x):
        calls.append(x)
        out = x.clone()
        if len(calls) == 1:
            out[7] = 1 - out[7].to(torch.int32)
        return out

    cell = cell_of(dtypes.find(name))
    with pytest.raises(WrongAnswer, match="off by"):
        cell(operation, cell.tensor(100))
    assert len(calls) == 3
    assert cell.result.answer.rel_error > cell.result.answer.tolerance


@pytest.mark.parametrize(
    ("actual", "expected", "wrong"),
    [
        ([math.inf], [1.0], True),
        ([math.nan], [1.0], True),
        ([1.0], [math.nan], True),
        ([math.nan, 1.0], [math.nan, 1.0], False),
        ([math.inf], [math.inf], False),
        ([-math.inf], [math.inf], True),
        ([0.0], [0.0], False),
        ([1e-3], [0.0], True),
        ([1.0, 2.0], [1.0], True),
    ],
)
def test_awkward_numbers(actual, expected, wrong):
    found = answer.compare(torch.tensor(actual), torch.tensor(expected), torch.float32)
    assert bool(found.fault) is wrong


def test_a_result_of_another_shape_or_count_is_wrong():
    one = torch.ones(2, 3)
    assert "shape" in answer.compare(one, one.T, torch.float32).fault
    assert "results" in answer.compare([one], [one, one], torch.float32).fault


def test_the_reference_is_float64_on_the_cpu_and_leaves_the_arguments_alone():
    x = torch.ones(3, dtype=torch.float16)
    (y, dtype, n), _ = answer.on_reference(((x, torch.float16, 3), {}))
    assert (y.dtype, dtype, n) == (torch.float64, torch.float64, 3)
    wide = torch.ones(3, dtype=torch.float64)
    answer.on_reference(wide).zero_()
    assert wide.sum() == 3


def test_copies_keep_strides_and_ties():
    x = torch.arange(6.0).reshape(2, 3).t()
    assert answer.fresh(x).stride() == x.stride()
    assert answer.on_reference(x).stride() == x.stride()
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model2, optimizer2 = answer.on_reference((model, optimizer))
    assert optimizer2.param_groups[0]["params"][0] is next(model2.parameters())
    assert next(model2.parameters()).dtype == torch.float64
    assert next(model.parameters()).dtype == torch.float32


class Batch(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


def test_a_named_tuple_stays_one():
    wide = answer.on_reference(Batch(torch.ones(2), torch.arange(2)))
    assert isinstance(wide, Batch)
    assert (wide.images.dtype, wide.labels.dtype) == (torch.float64, torch.int64)


def test_an_in_place_operation_is_compared_with_the_values_before_it():
    cell = cell_of()
    x = cell.tensor(1000)
    before = x.clone()
    cell(torch.Tensor.add_, x, cell.tensor(1000))
    assert torch.equal(x, before)  # checked on a copy; nothing was timed


def test_memory_proofs_distinguish_shared_from_copied():
    array = np.array([0.7, 0.0])
    for start in (0.7, 0.0, 1.0):
        array[0] = start
        answer.shared(torch.from_numpy(array), array)
        array[0] = start
        answer.copied(torch.tensor(array), array)
        array[0] = start
        with pytest.raises(WrongAnswer):
            answer.copied(torch.from_numpy(array), array)
        with pytest.raises(WrongAnswer):
            answer.shared(torch.tensor(array), array)


def test_a_corrupted_byte_is_found():
    source = torch.arange(100.0)
    arrived = source.clone()
    assert answer.same_values(source)(arrived) == Answer(0.0, 0.0)
    arrived[3] += 1
    assert answer.same_values(source)(arrived).fault


def test_moments_distinguish_distributions():
    check = answer.moments(mean=0.5, std=12**-0.5)
    generator = torch.Generator().manual_seed(1)
    assert not check(torch.rand(100_000, generator=generator)).fault
    assert check(torch.randn(100_000, generator=generator)).fault
    assert check(torch.zeros(100_000)).fault


def test_random_numbers_that_are_none_are_wrong_by_an_amount_that_can_be_stored():
    found = answer.moments(mean=0.5, std=12**-0.5)(torch.tensor([0.5, float("nan")] * 600))
    assert found.fault
    assert found.rel_error == float("inf")


def test_a_module_with_a_reference_of_its_own_is_no_argument_of_that():
    """A pipeline of torchvision is a module; its reference takes what the pipeline takes."""
    made = cell_of()
    made(torch.nn.ReLU(), made.tensor(4), against=torch.relu)
    assert made.result.answer.rel_error == 0.0
