"""A model of the user: its forward pass, its forward and backward pass, each of its operators."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure import answer, arguments, dtypes
from bench.measure.arguments import CPU
from bench.measure.references import Reference
from bench.suite.axes import accelerator_only, host_only
from bench.suite.model import named

GROUP = "own model"


#: The name of the model that `--model` names, and the operators of a forward pass. Without any,
#: one cell takes their place that no device times.
NAME = named.CURRENT[0].name if named.CURRENT else "none"
NONE = pytest.param(NAME, "none", "none", 0, marks=[host_only, accelerator_only])
OPERATORS = [
    (NAME, one.name, one.shapes, one.uses) for model in named.CURRENT for one in model.operators
]


def rounding(model, dtype, backward=False):
    """Return the error of a whole pass in the Euclidean norm, relative to the norm of its results.

    The errors of the operators are independent, so their variances add up. Sums of 16-bit numbers
    are accumulated in float32: there, each operator counts as one rounding. A backward pass has two
    more of each. Where rounding turns k of n units of a ReLU on or off, gradients change by about
    sqrt(k / n): k is one and a share of epsilon, and three times this is allowed.
    """
    terms = sum(one.uses * (one.terms if dtype.itemsize > 2 else 1) for one in model.operators)
    allowed = dtypes.tolerance(dtype, (3 if backward else 1) * terms)
    kinks = [one.size for one in model.operators if one.has_kinks] if backward else []
    flips = math.sqrt(1 / min(kinks) + torch.finfo(dtype).eps) if kinks else 0.0
    return allowed + 3 * flips


def agrees(operation, dtype, allowed=math.inf, terms=1):
    """Return a check against the same call on the CPU in float64.

    Of the whole result in the Euclidean norm if that is `allowed` to be off by so much, otherwise
    of each element for sums of so many `terms`.
    """
    expected: list[Any] = []

    def norm(result):
        parts = [one.detach().cpu().double().reshape(-1) for one in arguments.tensors(result)]
        return torch.cat([one for one in parts if one.numel()])

    def check(result, *args, **kwargs):
        if not expected:
            expected.append(arguments.reference(operation, args, kwargs))
        if allowed == math.inf:
            return answer.compare(result, expected[0], dtype, terms)
        want, bound = norm(expected[0]).numpy(), math.inf
        reference = Reference(want, torch.float64, bound, norm=allowed, kind=np.ndarray)
        return answer.judge(norm(result).numpy(), reference, CPU)

    return check


def forward(module, *inputs):
    with torch.no_grad():
        return module(*inputs)


@pytest.mark.parametrize("model", [NAME])
def bench_forward(cell, model):
    """A forward pass without a graph."""
    known = named.CURRENT[0]
    module, inputs = known.on(cell)
    if known.fault:
        cell.note(known.fault)
    cell(forward, module, *inputs, check=agrees(forward, cell.dtype, rounding(known, cell.dtype)))


def forward_backward(module, *inputs):
    module.zero_grad()
    results = [one for one in arguments.tensors(module(*inputs)) if one.dtype.is_floating_point]
    torch.stack([one.float().square().mean() for one in results]).sum().backward()
    return [one.grad for one in module.parameters() if one.grad is not None]


@pytest.mark.parametrize("model", [NAME])
def bench_forward_backward(cell, model):
    """A forward pass, the mean square of its results as the loss, and the backward pass."""
    known = named.CURRENT[0]
    module, inputs = known.on(cell)
    if not any(one.requires_grad for one in module.parameters()):
        raise RuntimeError("the model has no parameters to train: a backward pass is not supported")
    allowed = rounding(known, cell.dtype, backward=True)
    cell(forward_backward, module, *inputs, check=agrees(forward_backward, cell.dtype, allowed))


@pytest.mark.parametrize(("model", "operator", "shapes", "uses"), OPERATORS or [NONE])
def bench_operator(cell, model, operator, shapes, uses):
    """One operator with the arguments that it gets in a forward pass."""
    found = named.CURRENT[0].operators
    one = next(one for one in found if (one.name, one.shapes) == (operator, shapes))
    args, kwargs = named.moved((one.args, one.kwargs), cell)
    cell(one.call, *args, check=agrees(one.call, cell.dtype, terms=one.terms), **kwargs)
