"""Broken kernels are noticed: a fast part of ``python -m tests.validation.answers``."""

import ast
import csv
import inspect
import re
from pathlib import Path

import pytest
import torch

from bench.measure import layers, references
from bench.suite import axes
from bench.suite.loading import bench_dataset
from bench.suite.tensors import (
    bench_arithmetic,
    bench_creation,
    bench_indexing,
    bench_inplace,
    bench_joining,
    bench_numpy,
    bench_transfer,
)
from bench.suite.training import (
    bench_autograd,
    bench_layers,
    bench_loss,
    bench_networks,
    bench_optimizers,
    bench_step,
    expected,
)
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
    *("one memory", "later calls wrong"),
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
    ("all 1 %", bench_layers.bench_parameters, {"look": "state_dict"}),
    ("strides", bench_networks.bench_attention_layout, {"layout": "permuted"}),
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


def _too_fast(optimizer, model):
    optimizer.param_groups[0]["lr"] *= 1.02
    optimizer.step()
    optimizer.param_groups[0]["lr"] /= 1.02
    return model


def _remembered(x, y, known={}):  # noqa: B006
    key = x.data_ptr(), y.data_ptr()
    return known.setdefault(key, (x @ y, x, y))[0].clone()


def _sorted_in_place(x):
    x.copy_(x.sort(-1).values)
    return torch.return_types.sort((x.clone(), torch.arange(1024).expand_as(x).contiguous()))


def _remembered_sort(x, known={}):  # noqa: B006
    values, indices, _ = known.setdefault(x.data_ptr(), (*torch.sort(x), x))
    return torch.return_types.sort((values.clone(), indices.clone()))


def _zeroed_parameters(model, _):
    for parameter in model.parameters():
        parameter.grad, parameter.data = None, torch.zeros_like(parameter)


def _without_its_state(layer, x):
    output, state = layer(x)
    return output, [torch.zeros_like(one) for one in state]


def _normalised_without_epsilon(x, _, weight, bias):
    return torch.nn.functional.layer_norm(x, (768,), weight, bias, eps=0)


def _step_without_epsilon(optimizer, model):
    optimizer.param_groups[0]["eps"] = 0
    optimizer.step()
    return model


#: Kernels that were once called right: the benchmark, its params and dtypes, and the kernel.
ONCE_MISSED = {
    "zero off the diagonal": (
        *(bench_arithmetic.bench_matmul, {"n": 64}, ["bfloat16"]),
        lambda x, y: torch.diag_embed(torch.diagonal(x @ y)),
    ),
    "no bias": (
        *(bench_layers.bench_linear, {"form": "module"}, ["float32", "bfloat16"]),
        lambda layer, x: x @ layer.weight.t(),
    ),
    "other dimension": (
        *(bench_arithmetic.bench_softmax, {"n": 16}, ["float32", "float16"]),
        lambda x, dim: torch.softmax(x, 1 - dim),
    ),
    "reversed inputs": (
        *(bench_joining.bench_cat, CELLS[7][1], axes.ALL),
        lambda parts, dim: torch.cat(parts[::-1], dim),
    ),
    "contiguous returns its input": (
        *(bench_arithmetic.bench_contiguous, {"n": 16}, axes.ALL),
        lambda x: x,
    ),
    "clone returns its input": (
        *(bench_inplace.bench_copy, {"n": 16, "form": "out_of_place"}, axes.ALL),
        lambda x: x,
    ),
    "ones for zeros": (bench_creation.bench_zeros, {"n": 16}, ["float64"], torch.ones),
    "2 % too fast": (
        *(bench_optimizers.bench_optimizer_step, ADAM, ["float32", "float16", "bfloat16"]),
        _too_fast,
    ),
    "a result of other values": (
        *(bench_arithmetic.bench_matmul, {"n": 64}, ["float32", "bfloat16"]),
        _remembered,
    ),
    "an argument sorted in place": (
        *(bench_indexing.bench_sort, {"n": 4096}, ["float32", "bfloat16"]),
        _sorted_in_place,
    ),
    "a sort of other values": (
        *(bench_indexing.bench_sort, {"n": 4096}, ["float32"]),
        _remembered_sort,
    ),
    "a number of before": (
        *(bench_numpy.bench_item, {}, ["float32"]),
        lambda x, known={}: known.setdefault(x.data_ptr(), (x.item(), x))[0],
    ),
    "the same index in each row": (
        *(bench_indexing.bench_gather, {"n": 4096}, ["float32"]),
        lambda x, dim, index: torch.gather(x, dim, index[:1].expand_as(index)),
    ),
    "integers in float32": (
        *(bench_inplace.bench_add, CELLS[5][1], ["int32", "int64"]),
        lambda x, y: (x.float() + y.float()).to(x.dtype),
    ),
    "integers in 32 bits": (
        *(bench_arithmetic.bench_sum, {"n": 16}, ["int32", "int64"]),
        lambda x, dim: x.sum(dim, dtype=torch.int32).long(),
    ),
    "negative integers kept": (
        *(bench_inplace.bench_relu, CELLS[5][1], ["int8", "int16", "int32", "int64"]),
        torch.clone,
    ),
    "all true": (
        *(bench_transfer.bench_convert, {"n": 16, "source": "float32"}, ["bool"]),
        lambda x, dtype, copy: torch.ones_like(x, dtype=dtype),
    ),
    "uint8 as int8": (
        *(bench_transfer.bench_convert, {"n": 16, "source": "uint8"}, ["float32", "bfloat16"]),
        lambda x, dtype, copy: x.view(torch.int8).to(dtype),
    ),
    "converted through int8": (
        *(bench_transfer.bench_convert, {"n": 16, "source": "float32"}, ["int32", "int64"]),
        lambda x, dtype, copy: x.to(torch.int8).to(dtype),
    ),
    "not negated": (
        *(bench_arithmetic.bench_launch_chain, {"launches": 10}, ["float32", "bfloat16"]),
        lambda x, launches: x.clone(),
    ),
    "a last state of zeros": (
        *(bench_networks.bench_lstm, {"batch": 1}, ["float32", "bfloat16"]),
        _without_its_state,
    ),
    "a norm without epsilon": (
        *(bench_networks.bench_layer_norm, {"n": 64, "layout": "sliced"}, ["float32", "float16"]),
        _normalised_without_epsilon,
    ),
    "a step without epsilon": (
        *(bench_optimizers.bench_optimizer_step, ADAM, ["float32", "bfloat16"]),
        _step_without_epsilon,
    ),
    "sigmoid of small numbers": (
        *(bench_inplace.bench_sigmoid, CELLS[5][1], ["float32", "bfloat16"]),
        lambda x: torch.sigmoid(x.clamp(-1.5, 1.5)),
    ),
    "softmax that overflows": (
        *(bench_arithmetic.bench_softmax, {"n": 16}, ["float32", "bfloat16"]),
        lambda x, dim: (x.float().exp() / x.float().exp().sum(dim, True)).to(x.dtype),
    ),
    "a loss that overflows": (
        *(bench_loss.bench_cross_entropy, {"batch": 1, "target": "index"}, ["float32"]),
        lambda x, y: x.exp().sum(1).log().mean() - x[0, y].mean(),
    ),
    "parameters zeroed": (
        *(bench_layers.bench_zero_grad, {"set_to_none": "yes"}, ["float32"]),
        _zeroed_parameters,
    ),
    "a step that does nothing": (
        *(bench_optimizers.bench_optimizer_step, CELLS[10][1], ["float32"]),
        lambda _, model: model,
    ),
}


@pytest.mark.parametrize("name", ONCE_MISSED)
def test_a_kernel_that_was_once_called_right_is_wrong(name, monkeypatch):
    body, params, dtypes, kernel = ONCE_MISSED[name]
    for dtype in dtypes:
        assert answers.seen(body, dtype, params, "") == "", dtype
    monkeypatch.setattr(answers, "broken", lambda *_: kernel)
    assert [dtype for dtype in dtypes if not answers.seen(body, dtype, params, name)] == []


def test_a_row_without_an_error_has_a_proof_that_the_docs_name():
    text = Path("docs/correctness.md").read_text(encoding="utf-8")
    start = text.index("`rel_error` is blank")
    named = set(re.findall(r"`(\w+)`", text[start : text.index("- A view must", start)]))
    blank = set()
    for path in Path("results/examples").rglob("*.csv"):
        with path.open(encoding="utf-8") as lines:
            good = [row for row in csv.DictReader(lines) if row["status"] == "ok"]
        blank |= {row["benchmark"] for row in good if not row["rel_error"]}
    assert len(blank) > 5
    assert blank <= named


def test_each_call_of_a_benchmark_declares_its_reference_or_its_check():
    """Without one, the reference of integers and float64 is the operation itself."""
    calls = []
    for path in Path("bench/suite").rglob("bench_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cell", "cell.loop"):
                given = {word.arg or ast.unparse(word.value) for word in node.keywords}
                loop = ast.unparse(node.func) == "cell.loop" and len(node.args) == 2
                declared = loop or bool(given & {"expect", "check", "checked", "seen"})
                calls.append((path.name, ast.unparse(node), declared, "against" in given))
    assert len(calls) > 60
    assert [call for call in calls if not call[2] or call[3]] == []


#: What references may call of torch: no arithmetic.
STRUCTURE = {
    *("finfo", "empty", "from_numpy", "get_default_dtype", "tensor", "device", "autocast"),
    *("view_as_real", "Tensor"),
}


def test_references_compute_by_numpy():
    for module in (references, layers, expected):
        tree = ast.parse(inspect.getsource(module))
        called = {
            node.func.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) in ("torch", "functional", "nn.functional")
        }
        assert called <= STRUCTURE
