"""One step of each optimizer over the network's 669,706 parameters, by each implementation."""

import pytest
import torch

from bench.measure.answer import WrongAnswer
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


def every_parameter_moved(model):
    before = [p.detach().clone() for p in model.parameters()]

    def proof(result, *_):
        for place, (was, now) in enumerate(zip(before, result.parameters(), strict=True)):
            if not now.isfinite().all():
                raise WrongAnswer(f"parameter {place} is not finite after a step")
            if torch.equal(was, now):
                raise WrongAnswer(f"parameter {place} did not move")

    return proof


@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def bench_optimizer_step(cell, optimizer, implementation):
    model = with_gradients(cell, network(cell))
    touched = OPTIMIZERS[optimizer][2]
    cell.work(items=PARAMETERS, unit="parameter", bytes=cell.nbytes(touched * PARAMETERS))
    made = make(optimizer, implementation, model)
    cell(step, made, model, terms=4, proof=every_parameter_moved(model))
