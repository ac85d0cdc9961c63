"""Broken kernels are noticed: a fast part of ``python -m tests.validation.answers``."""

import pytest

from bench.suite.tensors import bench_arithmetic, bench_creation, bench_inplace, bench_joining
from bench.suite.training import bench_autograd, bench_layers, bench_optimizers, bench_step
from tests.validation import answers

CELLS = [
    (bench_arithmetic.bench_matmul, {"n": 64}),
    (bench_arithmetic.bench_softmax, {"n": 16}),
    (bench_arithmetic.bench_sum, {"n": 16}),
    (bench_arithmetic.bench_contiguous, {"n": 16}),
    (bench_creation.bench_zeros, {"n": 16}),
    (bench_inplace.bench_add, {"n": 16, "form": "out_of_place"}),
    (bench_inplace.bench_sigmoid, {"n": 16, "form": "in_place"}),
    (bench_joining.bench_cat, {"n": 16, "count": 2, "dim": 1, "layout": "transposed"}),
    (bench_layers.bench_linear, {"form": "module"}),
    (bench_autograd.bench_forward, {"batch": 16}),
    (bench_optimizers.bench_optimizer_step, {"optimizer": "sgd", "implementation": "foreach"}),
    (bench_step.bench_step, {"batch": 1}),
]
#: One element by one per cent is of the size of a rounding in 16 bits, and no fault.
BREAKS = [name for name in answers.NAMES if not name.startswith("one element")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("body", "params"), CELLS, ids=lambda one: getattr(one, "__name__", ""))
def test_every_break_of_these_cells_is_seen(body, params, dtype):
    assert answers.seen(body, dtype, params, "") == ""
    missed = [name for name in BREAKS if answers.seen(body, dtype, params, name) == ""]
    assert missed == []
