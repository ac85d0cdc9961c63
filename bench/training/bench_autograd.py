"""Forward, without and with a graph; backward; what of the graph can be kept or saved."""

import pytest
import torch

from bench.axes import values
from bench.training.models import (
    BATCHES,
    TERMS,
    gradients,
    loss_of,
    network,
    samples,
    work,
)


def forward(model, x):
    return model(x)


@pytest.mark.parametrize("batch", BATCHES)
def bench_forward(cell, batch):
    work(cell, batch)
    cell(forward, network(cell), samples(cell, batch)[0], terms=TERMS)


def without_grad(model, x):
    with torch.no_grad():
        return model(x)


def in_inference_mode(model, x):
    with torch.inference_mode():
        return model(x)


def detached(model, x):
    return model(x).detach()


MODES = {
    "train": forward,
    "eval": forward,
    "no_grad": without_grad,
    "inference_mode": in_inference_mode,
    "detach": detached,
}


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_forward_mode(cell, batch, mode):
    work(cell, batch)
    model = network(cell).train(mode == "train")
    cell(MODES[mode], model, samples(cell, batch)[0], terms=TERMS)


@pytest.mark.parametrize("batch", values((1, 64, 1024), full=(4, 16, 256, 4096)))
def bench_backward(cell, batch):
    work(cell, batch, passes=2)
    model, (x, y) = network(cell), samples(cell, batch)
    loss, parameters = loss_of(model, x, y), list(model.parameters())
    cell(
        lambda *_: torch.autograd.grad(loss, parameters, retain_graph=True),
        *(model, x, y),
        against=gradients,
        terms=TERMS + batch,
        norm=2,
    )


def freeze(model):
    for layer in model.linear_relu_stack[:-1]:
        layer.requires_grad_(False)
    return model


@pytest.mark.parametrize("parameters", ["trained", "frozen_but_last"])
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_forward_backward(cell, batch, parameters):
    work(cell, batch, passes=3 if parameters == "trained" else 1)
    model = network(cell) if parameters == "trained" else freeze(network(cell))
    cell(gradients, model, *samples(cell, batch), terms=TERMS + batch, norm=2)


def backward_twice(model, x, y):
    model.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y)
    loss.backward(retain_graph=True)
    loss.backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_second_backward(cell, batch):
    work(cell, batch, passes=5)
    cell(backward_twice, network(cell), *samples(cell, batch), terms=TERMS + batch, norm=2)
