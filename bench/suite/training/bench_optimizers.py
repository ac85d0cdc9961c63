"""One step of each optimizer over the network's 669,706 parameters, by each implementation."""

import numpy as np
import pytest
import torch

from bench.measure.arrays import double, ulp, unit
from bench.measure.references import Reference, scale
from bench.suite.axes import quick
from bench.suite.training.models import PARAMETERS, network, with_gradients

GROUP = "optimizers"

#: Name -> class, its settings, and how many numbers a step reads and writes for each parameter.
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 1e-2}, 3),
    "sgd_momentum": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}, 5),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-2}, 5),
    "adam": (torch.optim.Adam, {"lr": 1e-2}, 7),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2}, 7),
}
#: Steps of the check, and the weight decay of AdamW in it, which shows in every dtype.
STEPS, DECAY = 3, 1.0
IMPLEMENTATIONS = {
    "single_tensor": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def make(optimizer, implementation, model):
    kind, settings, _ = OPTIMIZERS[optimizer]
    if kind is torch.optim.RMSprop and implementation == "fused":
        raise NotImplementedError("RMSprop has no fused implementation")
    return kind(model.parameters(), **settings, **IMPLEMENTATIONS[implementation])


def step(optimizer, model):
    optimizer.step()
    return model


def with_small(gradient):
    """Make some numbers tiny and some zero, so that epsilon counts; in float16 it is zero."""
    if gradient.dtype != torch.float16:
        flat = gradient.view(-1)
        flat[::16] *= 2.0**-26
        flat[8::16] = 0
    return gradient


def three_steps(cell):
    """Return a trial of three steps, each with gradients of its own."""

    def trial(operation, optimizer, model):
        for group in optimizer.param_groups:
            group["weight_decay"] = DECAY if group["weight_decay"] else 0
        for seed in range(STEPS):
            for parameter in with_gradients(cell, model, seed).parameters():
                with_small(parameter.grad)
            operation(optimizer, model)
        return list(model.parameters())

    return trial


def by_formula(cell, name):
    """Return the parameters after the three steps, from the formula of the optimizer in float64.

    Each step rounds the parameter once more, and its update a few times: 4 u of it, or
    twice that of its terms, which may cancel.
    """
    settings = OPTIMIZERS[name][1]
    rate, beta, square = settings["lr"], 0.9, 0.99 if name == "rmsprop" else 0.999

    def expect(_, model):
        found = []
        for parameter in model.parameters():
            value = before = double(parameter)
            m = v = np.zeros_like(value)
            bound = np.zeros_like(value)
            for seed in range(STEPS):
                g = double(with_small(cell.tensor(*parameter.shape, seed=seed)))
                v = square * v + (1 - square) * g * g
                if name.startswith("sgd"):
                    m = beta * m + g if name == "sgd_momentum" else g
                    update = m
                elif name == "rmsprop":
                    update = g / (np.sqrt(v) + 1e-8)
                else:
                    value = value * (1 - rate * DECAY) if name == "adamw" else value
                    m = beta * m + (1 - beta) * g
                    root = np.sqrt(v / (1 - square ** (seed + 1))) + 1e-8
                    update = m / (1 - beta ** (seed + 1)) / root
                value = value - rate * update
                roundings = 2 if name == "adamw" else 1
                bound += roundings * ulp(value, parameter.dtype)
                terms = abs(update) if name == "sgd" else 2 * (1 + abs(update))
                bound += 4 * unit(parameter.dtype) * rate * terms
            of, whole = parameter.dtype, scale(parameter.dtype)
            found.append(Reference(value, of, bound, whole, origin=before, requires_grad=True))
        return found

    return expect


@quick(optimizer=("adam",), dtype=("float32",))
@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def bench_optimizer_step(cell, optimizer, implementation):
    model = with_gradients(cell, network(cell))
    touched = OPTIMIZERS[optimizer][2]
    cell.work(items=PARAMETERS, unit="parameter", bytes=cell.nbytes(touched * PARAMETERS))
    made = make(optimizer, implementation, model)
    expect, trial = by_formula(cell, optimizer), three_steps(cell)
    cell(step, made, model, expect=expect, trial=trial, changes=True)
