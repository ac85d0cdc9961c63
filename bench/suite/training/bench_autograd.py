"""Forward with and without a graph, backward, retained graphs and frozen parameters."""

from itertools import pairwise

import pytest
import torch

from bench.suite.axes import values
from bench.suite.training.models import (
    BACKWARD_FLOP,
    BATCHES,
    FORWARD_FLOP,
    PARAMETERS,
    SIZES,
    TERMS,
    forward_work,
    gradients,
    loss_of,
    network,
    samples,
    training_work,
)

GROUP = "training"


def forward(model, x):
    return model(x)


@pytest.mark.parametrize("batch", BATCHES)
def bench_forward(cell, batch):
    forward_work(cell, batch)
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
    forward_work(cell, batch)
    model = network(cell).train(mode == "train")
    cell(MODES[mode], model, samples(cell, batch)[0], terms=TERMS)


@pytest.mark.parametrize("batch", values((1, 64, 1024), full=(4, 16, 256, 4096)))
def bench_backward(cell, batch):
    # It reads the weights of all layers but the first and the stored outputs of all layers, and
    # writes the gradients.
    weights = sum(a * b for a, b in pairwise(SIZES[1:]))
    training_work(cell, batch, weights + batch * sum(SIZES[1:]) + PARAMETERS, BACKWARD_FLOP)
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
    if parameters == "trained":
        model = network(cell)
        training_work(cell, batch, moved=2 * PARAMETERS)
    else:
        model, (inputs, outputs) = freeze(network(cell)), SIZES[-2:]
        trained = inputs * outputs + outputs
        training_work(cell, batch, PARAMETERS + trained, FORWARD_FLOP + 2 * inputs * outputs)
    cell(gradients, model, *samples(cell, batch), terms=TERMS + batch, norm=2)


def backward_twice(model, x, y):
    model.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y)
    loss.backward(retain_graph=True)
    (2 * loss).backward()  # another loss, so that the first pass twice is not the same
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_second_backward(cell, batch):
    training_work(cell, batch, 2 * PARAMETERS, FORWARD_FLOP + 2 * BACKWARD_FLOP)
    cell(backward_twice, network(cell), *samples(cell, batch), terms=TERMS + batch, norm=2)
