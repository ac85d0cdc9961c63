"""Single layers as modules and as plain functions, and listing or zeroing parameters."""

import pytest
import torch
from torch import nn

from bench.measure.answer import WrongAnswer
from bench.suite.axes import FLOAT32, FLOATING, dtypes
from bench.suite.training.models import SIZES, network, samples, with_gradients

GROUP = "layers and losses"

BATCH = 64
WIDTH = SIZES[1]


def by_hand_linear(x, weight, bias):
    return x @ weight.t() + bias


def by_hand_stack(x, w1, b1, w2, b2, w3, b3):
    x = torch.relu(x @ w1.t() + b1)
    x = torch.relu(x @ w2.t() + b2)
    return x @ w3.t() + b3


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_flatten(cell, form):
    x, _ = samples(cell, BATCH)
    cell.work(items=BATCH, unit="sample", bytes=0)
    cell(nn.Flatten(), x) if form == "module" else cell(torch.flatten, x, 1)


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_linear(cell, form):
    layer = nn.Linear(WIDTH, WIDTH, device=cell.device, dtype=cell.dtype)
    x = cell.tensor(BATCH, WIDTH)
    bytes_ = cell.nbytes(WIDTH * WIDTH + WIDTH + 2 * BATCH * WIDTH)
    cell.work(items=BATCH, unit="sample", bytes=bytes_, flop=2 * BATCH * WIDTH * WIDTH)
    if form == "module":
        cell(nn.Module.__call__, layer, x, terms=WIDTH)
    else:
        cell(by_hand_linear, x, layer.weight, layer.bias, terms=WIDTH)


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_relu_layer(cell, form):
    x = cell.tensor(BATCH, WIDTH)
    cell.work(items=BATCH, unit="sample", bytes=cell.nbytes(2 * BATCH * WIDTH))
    cell(nn.ReLU() if form == "module" else torch.relu, x)


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_softmax_layer(cell, form):
    x = cell.tensor(BATCH, SIZES[-1])
    cell.work(items=BATCH, unit="sample", bytes=cell.nbytes(2 * BATCH * SIZES[-1]))
    if form == "module":
        cell(nn.Softmax(dim=1), x, terms=SIZES[-1])
    else:
        cell(torch.softmax, x, 1, terms=SIZES[-1])


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("form", ["module", "by_hand"])
def bench_sequential(cell, form):
    stack = network(cell).linear_relu_stack
    x = samples(cell, BATCH)[0].flatten(1)
    cell.work(items=BATCH, unit="sample")
    if form == "module":
        cell(nn.Module.__call__, stack, x, terms=sum(SIZES))
    else:
        cell(by_hand_stack, x, *stack.parameters(), terms=sum(SIZES))


LISTINGS = {
    "parameters": lambda model: list(model.parameters()),
    "named_parameters": lambda model: dict(model.named_parameters()),
    "state_dict": lambda model: dict(model.state_dict()),
}


@dtypes(*FLOAT32)
@pytest.mark.parametrize("look", list(LISTINGS))
def bench_parameters(cell, look):
    cell.work(items=2 * len(SIZES) - 2, unit="tensor")
    cell(LISTINGS[look], network(cell))


def assign_and_zero(model, gradients, set_to_none):
    # Each call assigns gradients first, because gradients that are None take no time to reset.
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    model.zero_grad(set_to_none=set_to_none)


def all_zero(_, model, *__):
    if any(p.grad is not None and p.grad.count_nonzero() for p in model.parameters()):
        raise WrongAnswer("a gradient is left over")


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("set_to_none", ["yes", "no"])
def bench_zero_grad(cell, set_to_none):
    model = with_gradients(cell, network(cell))
    gradients = [p.grad.clone() for p in model.parameters()]
    count = sum(g.numel() for g in gradients)
    cell.work(items=count, bytes=0 if set_to_none == "yes" else cell.nbytes(count))
    cell(assign_and_zero, model, gradients, set_to_none == "yes", proof=all_zero)
