"""Matrix products, elementwise chains, reductions, and making a transposed tensor contiguous."""

import pytest
import torch

from bench.measure import precision
from bench.measure.arrays import numbers
from bench.measure.layers import sampled_product
from bench.measure.proofs import fresh
from bench.measure.references import Reference, product, same, softmax, summed
from bench.measure.references import chain as chained
from bench.suite.axes import (
    ALL,
    FLOAT32,
    FLOATING,
    NUMERIC,
    accelerator_only,
    dtypes,
    quick,
    values,
)

GROUPS = {
    "matrix products": ("matmul", "matmul_tf32", "bmm"),
    "element-wise": ("elementwise_chain", "launch_chain"),
    "reductions": ("sum", "softmax"),
    "joining and copies": ("contiguous",),
}


def chain(x, y):
    return torch.sigmoid(x * y + x) * y


#: A GPU reaches its peak from 4096 on, where the launch and the filling of its cores are short.
PEAKS = (4096, 8192)


def factors(cell, *shape):
    """Return two operands; integers are so small that float64 has their exact product."""
    return (cell.tensor(*shape, dtype=cell.dtype, seed=seed) for seed in (0, 1))


def multiply(cell, n):
    cell.work(items=n * n, bytes=cell.nbytes(3 * n * n), flop=2 * n**3)
    checked = {"check": sampled_product, "proof": fresh} if n in PEAKS else {"expect": product}
    cell(torch.matmul, *factors(cell, n, n), **checked)


@quick(n=(512,))
@dtypes(*NUMERIC)
@pytest.mark.parametrize("n", values((64, 256, 512), full=(1024, 2048), accelerator=PEAKS))
def bench_matmul(cell, n):
    multiply(cell, n)


@accelerator_only
@dtypes(*FLOAT32)
@pytest.mark.parametrize("n", values((512, 4096), full=(64, 256, 1024, 2048, 8192)))
def bench_matmul_tf32(cell, n):
    """Products of float32 whose factors are rounded to 11 bits (NVIDIA GPUs from Ampere on)."""
    cell.enter(precision.tf32(cell.device))
    multiply(cell, n)


@dtypes(*NUMERIC)
@pytest.mark.parametrize("batch", values((32,), full=(8, 128)))
@pytest.mark.parametrize("n", values((64,), full=(128,)))
def bench_bmm(cell, batch, n):
    cell.work(items=batch * n * n, bytes=cell.nbytes(3 * batch * n * n), flop=2 * batch * n**3)
    cell(torch.bmm, *factors(cell, batch, n, n), expect=product)


@quick(n=(2**20,))
@dtypes(*FLOATING)
@pytest.mark.parametrize("n", values((2**4, 2**16, 2**20), full=(2**12, 2**22, 2**25)))
def bench_elementwise_chain(cell, n):
    # The bytes are those of one fused pass; unfused, the four operations move eleven, not three.
    cell.work(items=n, bytes=cell.nbytes(3 * n))
    cell(chain, cell.tensor(n), cell.tensor(n, seed=1), expect=chained)


def negated(x, launches):
    for _ in range(launches):
        x = -x
    return x


def once_more(operation, x, launches):
    """Return the result, and that of one more launch, which shows whether one negates."""
    return [operation(x, launches), operation(x, launches + 1)]


def opposites(x, _):
    return [same(x), Reference(-numbers(x), x.dtype)]


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("launches", [10, 100, 1000])
def bench_launch_chain(cell, launches):
    """Many small operations with one wait at the end: what each launch costs."""
    cell.work(items=launches, unit="launch", bytes=cell.nbytes(2 * 16 * launches))
    cell(negated, cell.tensor(16), launches, expect=opposites, trial=once_more)


@dtypes(*NUMERIC)
@pytest.mark.parametrize("n", values((16, 256, 1024), full=(2048, 6144)))
def bench_sum(cell, n):
    cell.work(items=n * n, bytes=cell.nbytes(n * n + n), flop=n * (n - 1))
    cell(torch.sum, cell.tensor(n, n), dim=1, expect=summed)


@quick(n=(1024,))
@dtypes(*FLOATING)
@pytest.mark.parametrize("n", values((16, 256, 1024), full=(2048, 6144)))
def bench_softmax(cell, n):
    cell.work(items=n * n, bytes=cell.nbytes(2 * n * n))
    # Their exponentials overflow unless the maximum is subtracted.
    cell(torch.softmax, cell.tensor(n, n).mul_(4).add_(96), dim=1, expect=softmax)


@dtypes(*ALL, default=FLOAT32)
@pytest.mark.parametrize("n", values((1024,), full=(16, 256, 2048, 6144)))
def bench_contiguous(cell, n):
    cell.work(items=n * n, bytes=2 * cell.nbytes(n * n))
    cell(torch.Tensor.contiguous, cell.tensor(n, n).t(), expect=same)
