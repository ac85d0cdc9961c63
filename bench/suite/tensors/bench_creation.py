"""Creating tensors: by factory, like another tensor, from a Python list.

The bytes are those of the written tensor; `empty` writes none. A factory gets `device` and `dtype`
only where they are not PyTorch's defaults: reading them takes as long as a small tensor.
"""

import functools

import pytest
import torch

from bench.measure.answer import layout
from bench.measure.proofs import fresh
from bench.measure.random_numbers import NORMAL, UNIFORM, drawn
from bench.measure.references import constant, converted, spaced
from bench.suite.axes import ALL, FLOAT32, FLOATING, dtypes, values

GROUP = "creation"
pytestmark = dtypes(*ALL, default=FLOAT32)

SIZES = values((2**20,), full=(2**4, 2**12, 2**22, 2**25))


def keywords(cell, default=torch.float32):
    """Return the keywords that a factory needs for the cell's device and dtype."""
    device = {} if cell.device.type == "cpu" else {"device": cell.device}
    return device | ({} if cell.dtype == default else {"dtype": cell.dtype})


def like(cell, made, *args):
    """Return the check that is made of these arguments, and of the dtype and device of a cell."""
    return made(*args, dtype=cell.dtype, device=cell.device)


def create(cell, n, factory, *args, **checked):
    cell.work(items=n, bytes=0 if factory in (torch.empty, torch.empty_like) else cell.nbytes(n))
    checked = {"proof": fresh} | checked
    cell(factory, *args, **checked)


@pytest.mark.parametrize("n", SIZES)
def bench_empty(cell, n):
    create(cell, n, torch.empty, n, check=like(cell, layout, n), **keywords(cell))


@pytest.mark.parametrize("n", SIZES)
def bench_zeros(cell, n):
    create(cell, n, torch.zeros, n, expect=constant(0), **keywords(cell))


@pytest.mark.parametrize("n", SIZES)
def bench_ones(cell, n):
    create(cell, n, torch.ones, n, expect=constant(1), **keywords(cell))


@pytest.mark.parametrize("n", SIZES)
def bench_full(cell, n):
    create(cell, n, torch.full, (n,), 3.0, expect=constant(3), **keywords(cell))


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("n", SIZES)
def bench_rand(cell, n):
    create(cell, n, torch.rand, n, **like(cell, drawn, UNIFORM, n), **keywords(cell))


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("n", SIZES)
def bench_randn(cell, n):
    create(cell, n, torch.randn, n, **like(cell, drawn, NORMAL, n), **keywords(cell))


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("n", SIZES)
def bench_arange(cell, n):
    # From 0 to 1, because float16 cannot hold the numbers up to n.
    create(cell, n, torch.arange, 0, 1, 1 / n, expect=spaced, **keywords(cell))


@pytest.mark.parametrize("n", SIZES)
def bench_empty_like(cell, n):
    create(cell, n, torch.empty_like, cell.tensor(n), check=like(cell, layout, n))


@pytest.mark.parametrize("n", SIZES)
def bench_zeros_like(cell, n):
    create(cell, n, torch.zeros_like, cell.tensor(n), expect=constant(0))


@pytest.mark.parametrize("n", SIZES)
def bench_ones_like(cell, n):
    create(cell, n, torch.ones_like, cell.tensor(n), expect=constant(1))


@pytest.mark.parametrize("n", SIZES)
def bench_full_like(cell, n):
    create(cell, n, torch.full_like, cell.tensor(n), 3, expect=constant(3))


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("n", SIZES)
def bench_rand_like(cell, n):
    create(cell, n, torch.rand_like, cell.tensor(n), **like(cell, drawn, UNIFORM, n))


@pytest.mark.parametrize("n", values((2**14,), full=(2**4, 2**18)))
def bench_tensor_from_list(cell, n):
    cell.work(items=n, bytes=cell.nbytes(n))
    data = cell.tensor(n).tolist()
    inferred = torch.tensor(data[:1]).dtype
    expect = functools.partial(converted, dtype=cell.dtype)
    cell(torch.tensor, data, **keywords(cell, inferred), expect=expect)
