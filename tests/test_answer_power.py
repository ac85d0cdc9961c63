"""Broken kernels are noticed: a fast part of ``python -m tests.validation.answers``."""

import pytest

from bench.suite.loading import bench_dataset
from bench.suite.tensors import bench_arithmetic, bench_creation, bench_inplace, bench_joining
from bench.suite.training import bench_autograd, bench_layers, bench_optimizers, bench_step
from tests.validation import answers, breaks

FROZEN = {"batch": 1, "parameters": "frozen_but_last"}
ADAM = {"optimizer": "adamw", "implementation": "single_tensor"}
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
BREAKS = [
    *(name for name in breaks.VALUES if not name.startswith(("one element", "float64"))),
    *("skipped", "swapped", "stale", "wrong dtype", "wrong device", "wrong alias"),
    "later calls wrong",
]
#: Breaks of what happens inside a call, and a cell that each breaks.
INSIDE = [
    ("strides", bench_arithmetic.bench_contiguous, {"n": 16}),
    ("gradients added up", bench_autograd.bench_forward_backward, FROZEN),
    ("gradients added up", bench_step.bench_step, {"batch": 1}),
    ("contexts ignored", bench_autograd.bench_forward_mode, {"batch": 1, "mode": "no_grad"}),
    ("rate 10 % off", bench_step.bench_step, {"batch": 1}),
    ("no momentum", bench_optimizers.bench_optimizer_step, ADAM),
    ("no second moment", bench_optimizers.bench_optimizer_step, ADAM),
    ("no weight decay", bench_optimizers.bench_optimizer_step, ADAM),
    ("later step", bench_optimizers.bench_optimizer_step, ADAM),
    ("one index off", bench_step.bench_step, {"batch": 16}),
    ("channel of an image flipped", bench_dataset.bench_batched_fetch, {"fetch": "getitem"}),
    ("batches swapped", bench_dataset.bench_batched_fetch, {"fetch": "getitems"}),
    ("labels swapped", bench_dataset.bench_custom_dataset, {"file": "png"}),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("body", "params"), CELLS, ids=lambda one: getattr(one, "__name__", ""))
def test_every_break_of_these_cells_is_seen(body, params, dtype):
    assert answers.seen(body, dtype, params, "") == ""
    missed = [name for name in BREAKS if answers.seen(body, dtype, params, name) == ""]
    assert missed == []


@pytest.mark.parametrize(("name", "body", "params"), INSIDE, ids=[name for name, *_ in INSIDE])
def test_breaks_inside_a_call_are_seen(name, body, params):
    assert answers.seen(body, "float32", params, name)
