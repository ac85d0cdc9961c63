"""The same numbers in another layout, and reductions of the first, middle or last axis.

Accelerators lose most where the reduced axis is not the contiguous one.
"""

import pytest
import torch

from bench.measure.references import product, softmax, summed
from bench.suite.axes import FLOAT32, FLOATING, dtypes
from bench.suite.layouts import LAYOUTS, laid_out

GROUPS = {"reductions": ("sum_dim", "softmax_dim"), "matrix products": ("matmul_layout",)}
pytestmark = dtypes(*FLOATING, default=FLOAT32)

ALONG = [
    *[(0, "contiguous"), (1, "contiguous"), (2, "contiguous"), (2, "transposed"), (2, "sliced")],
    *(
        pytest.param(dim, layout, marks=pytest.mark.full)
        for dim in (0, 1)
        for layout in LAYOUTS[1:]
    ),
]


@pytest.mark.parametrize(("dim", "layout"), ALONG)
def bench_sum_dim(cell, dim, layout):
    cell.work(items=64**3, bytes=cell.nbytes(64**3 + 64**2), flop=63 * 64**2)
    cell(torch.sum, laid_out(cell, layout, 64, 64, 64), dim=dim, expect=summed)


@pytest.mark.parametrize(("dim", "layout"), ALONG)
def bench_softmax_dim(cell, dim, layout):
    cell.work(items=64**3, bytes=cell.nbytes(2 * 64**3))
    x = laid_out(cell, layout, 64, 64, 64).mul_(4).add_(96)
    cell(torch.softmax, x, dim=dim, expect=softmax)


@pytest.mark.parametrize("layout", LAYOUTS)
def bench_matmul_layout(cell, layout):
    cell.work(items=256**2, bytes=cell.nbytes(3 * 256**2), flop=2 * 256**3)
    x, y = (laid_out(cell, layout, 256, 256, seed=seed) for seed in (0, 1))
    cell(torch.matmul, x, y, expect=product)
