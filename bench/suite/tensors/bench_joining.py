"""Joining tensors, which reads and writes every byte once."""

import pytest
import torch

from bench.measure.references import joined, stacked
from bench.suite.axes import ALL, FLOAT32, dtypes, values
from bench.suite.layouts import LAYOUTS, laid_out

GROUP = "joining and copies"
pytestmark = dtypes(*ALL, default=FLOAT32)

SIDES = values((16, 512), full=(128, 1024, 2048))


def matrices(cell, n, count, layout="contiguous"):
    cell.work(items=count * n * n, bytes=2 * cell.nbytes(count * n * n))
    return [laid_out(cell, layout, n, n, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("count", values((2,), full=(8,)))
@pytest.mark.parametrize("n", SIDES)
def bench_cat(cell, n, count, dim, layout):
    cell(torch.cat, matrices(cell, n, count, layout), dim, expect=joined)


@pytest.mark.parametrize("count", values((2,), full=(8,)))
@pytest.mark.parametrize("n", SIDES)
def bench_stack(cell, n, count):
    cell(torch.stack, matrices(cell, n, count), expect=stacked)
