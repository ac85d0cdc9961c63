"""Forward with and without a graph, backward, retained graphs and frozen parameters."""

import functools

import pytest
import torch

from bench.measure.answer import WrongAnswer
from bench.measure.proofs import fresh
from bench.suite.axes import values
from bench.suite.training import expected
from bench.suite.training.models import (
    BACKWARD_FLOP,
    BATCHES,
    FORWARD_FLOP,
    PARAMETERS,
    SIZES,
    backward_moved,
    forward_work,
    gradients,
    loss_of,
    network,
    samples,
    training_work,
    with_gradients,
)

GROUP = "training"


def forward(model, x):
    return model(x)


@pytest.mark.parametrize("batch", BATCHES)
def bench_forward(cell, batch):
    forward_work(cell, batch)
    cell(forward, network(cell), samples(cell, batch)[0], expect=expected.outputs)


def without_grad(model, x):
    with torch.no_grad():
        return model(x)


def in_inference_mode(model, x):
    with torch.inference_mode():
        return model(x)


MODES = {
    "train": forward,
    "eval": forward,
    "no_grad": without_grad,
    "inference_mode": in_inference_mode,
    "detach": lambda model, x: model(x).detach(),
}


def in_mode(mode):
    """Return a proof that the forward pass ran in this mode."""

    def proof(result, model, x):
        fresh(result, model, x)
        if model.training != (mode == "train"):
            raise WrongAnswer("the call changed the mode of the module")
        if result.is_inference() != (mode == "inference_mode"):
            raise WrongAnswer("the inference mode is not what was asked for")

    return proof


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_forward_mode(cell, batch, mode):
    forward_work(cell, batch)
    model = network(cell).train(mode == "train")
    expect = functools.partial(expected.outputs, requires_grad=mode in ("train", "eval"))
    cell(MODES[mode], model, samples(cell, batch)[0], expect=expect, proof=in_mode(mode))


@pytest.mark.parametrize("batch", values((1, 64, 1024), full=(4, 16, 256, 4096)))
def bench_backward(cell, batch):
    training_work(cell, batch, backward_moved(batch), BACKWARD_FLOP)
    model, (x, y) = network(cell), samples(cell, batch)
    loss, parameters = loss_of(model, x, y), list(model.parameters())

    def backward(*_):
        return torch.autograd.grad(loss, parameters, retain_graph=True)

    cell(backward, model, x, y, expect=expected.gradients)


def freeze(model):
    for layer in model.linear_relu_stack[:-1]:
        layer.requires_grad_(False)
    return model


@pytest.mark.parametrize("parameters", ["trained", "frozen_but_last"])
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_forward_backward(cell, batch, parameters):
    if parameters == "trained":
        model = with_gradients(cell, network(cell))
        training_work(cell, batch, moved=2 * PARAMETERS)
    else:
        model, (inputs, outputs) = freeze(with_gradients(cell, network(cell))), SIZES[-2:]
        trained = inputs * outputs + outputs
        training_work(cell, batch, PARAMETERS + trained, FORWARD_FLOP + 2 * inputs * outputs)
    cell(gradients, model, *samples(cell, batch), expect=expected.gradients)


def backward_twice(model, x, y):
    model.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y)
    loss.backward(retain_graph=True)
    (2 * loss).backward()  # another loss, so that the first pass twice is not the same
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_second_backward(cell, batch):
    training_work(cell, batch, 2 * PARAMETERS, FORWARD_FLOP + 2 * BACKWARD_FLOP)
    expect = expected.three_times_the_gradients
    model = with_gradients(cell, network(cell))
    cell(backward_twice, model, *samples(cell, batch), expect=expect)
