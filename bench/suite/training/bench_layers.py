"""Single layers as modules and as plain functions, and listing or zeroing parameters."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.measure.answer import Answer, WrongAnswer
from bench.measure.proofs import aliases
from bench.measure.references import affine, flattened, linear, relu, same, softmax
from bench.suite.axes import FLOAT32, FLOATING, dtypes
from bench.suite.training import expected
from bench.suite.training.models import SIZES, forward_work, network, samples, with_gradients

GROUP = "layers and losses"
pytestmark = dtypes(*FLOATING, default=FLOAT32)

BATCH = 64
WIDTH = SIZES[1]


def by_hand_linear(x, weight, bias):
    return x @ weight.t() + bias


def by_hand_stack(x, w1, b1, w2, b2, w3, b3):
    x = torch.relu(x @ w1.t() + b1)
    x = torch.relu(x @ w2.t() + b2)
    return x @ w3.t() + b3


@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_flatten(cell, form):
    x, _ = samples(cell, BATCH)
    cell.work(items=BATCH, unit="sample", bytes=0)
    flatten = nn.Flatten() if form == "module" else functools.partial(torch.flatten, start_dim=1)
    cell(flatten, x, expect=flattened, proof=aliases)


@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_linear(cell, form):
    layer = nn.Linear(WIDTH, WIDTH, device=cell.device, dtype=cell.dtype)
    x = cell.tensor(BATCH, WIDTH)
    bytes_ = cell.nbytes(WIDTH * WIDTH + WIDTH + 2 * BATCH * WIDTH)
    cell.work(items=BATCH, unit="sample", bytes=bytes_, flop=2 * BATCH * WIDTH * WIDTH)
    if form == "module":
        cell(nn.Module.__call__, layer, x, expect=linear)
    else:
        cell(by_hand_linear, x, layer.weight, layer.bias, expect=affine)


@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_relu_layer(cell, form):
    x = cell.tensor(BATCH, WIDTH)
    cell.work(items=BATCH, unit="sample", bytes=cell.nbytes(2 * BATCH * WIDTH))
    cell(nn.ReLU() if form == "module" else torch.relu, x, expect=relu)


@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_softmax_layer(cell, form):
    x = cell.tensor(BATCH, SIZES[-1]).mul_(4).add_(96)
    cell.work(items=BATCH, unit="sample", bytes=cell.nbytes(2 * BATCH * SIZES[-1]))
    if form == "module":
        cell(nn.Softmax(dim=1), x, expect=softmax)
    else:
        cell(torch.softmax, x, 1, expect=softmax)


@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_sequential(cell, form):
    stack = network(cell).linear_relu_stack
    x = samples(cell, BATCH)[0].flatten(1)
    forward_work(cell, BATCH)
    if form == "module":
        cell(nn.Module.__call__, stack, x, expect=expected.outputs)
    else:
        cell(by_hand_stack, x, *stack.parameters(), expect=expected.by_hand)


LISTINGS = {
    "parameters": lambda model: list(model.parameters()),
    "named_parameters": lambda model: dict(model.named_parameters()),
    "state_dict": lambda model: dict(model.state_dict()),
}


def are_listed(found, model):
    """Prove the names and that each tensor is the parameter itself, found by its attribute."""
    layers = model.linear_relu_stack
    wanted = {
        f"linear_relu_stack.{place}.{name}": getattr(layers[place], name)
        for place in (0, 2, 4)
        for name in ("weight", "bias")
    }
    named = found if isinstance(found, dict) else dict(zip(wanted, found, strict=False))
    right = list(named) == list(wanted) and len(found) == len(wanted)
    right = right and all(
        named[name].data_ptr() == one.data_ptr() and named[name].shape == one.shape
        for name, one in wanted.items()
    )
    if not right:
        raise WrongAnswer(f"listed {list(named)}, not the parameters")


@dtypes(*FLOAT32)
@pytest.mark.parametrize("look", list(LISTINGS))
def bench_parameters(cell, look):
    cell.work(items=2 * len(SIZES) - 2, unit="tensor")
    grad = look != "state_dict"

    def expect(model):
        return [replace(same(one), requires_grad=grad) for one in model.parameters()]

    cell(LISTINGS[look], network(cell), expect=expect, proof=are_listed)


def assign(gradients, model, *_):
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient


def are_zero(set_to_none, before):
    """Return a check that no gradient of a model is left, and all else is as in `before`."""

    def check(_, model, *__):
        found = [p.grad for p in model.parameters()]
        none = [gradient is None for gradient in found]
        left = set_to_none != all(none) or any(
            gradient is not None and bool(gradient.count_nonzero()) for gradient in found
        )
        pairs = zip(model.parameters(), before.parameters(), strict=True)
        same = all(p.requires_grad and torch.equal(p, q) for p, q in pairs)
        fault = "a gradient is left over" if left else "" if same else "a parameter changed"
        return Answer(fault=fault)

    return check


@pytest.mark.parametrize("set_to_none", ["yes", "no"])
def bench_zero_grad(cell, set_to_none):
    model, none = with_gradients(cell, network(cell)), set_to_none == "yes"
    gradients = [p.grad.clone() for p in model.parameters()]
    count = sum(g.numel() for g in gradients)
    cell.work(items=count, bytes=0 if none else cell.nbytes(count))
    # A gradient that is None takes no time to reset, so each call is given gradients first.
    prepare = functools.partial(assign, gradients) if none else None
    check = are_zero(none, network(cell))
    cell(nn.Module.zero_grad, model, none, prepare=prepare, check=check)
