"""One training step: over batch sizes, in mixed precision, and in its parts."""

import math
import statistics

import numpy as np
import pytest
import torch
from torch import nn

from bench.measure.answer import WrongAnswer
from bench.measure.references import double, ulp
from bench.suite.axes import dtypes, quick, values
from bench.suite.training import compiler
from bench.suite.training.models import (
    BATCHES,
    PARAMETERS,
    TERMS,
    gradients,
    loss_of,
    network,
    samples,
    training_work,
)

GROUP = "training"

#: So small that thousands of steps on one batch hardly change the network: a loss near zero would
#: give denormal gradients.
LEARNING_RATE = 1e-5
#: Numbers a step moves: it reads the parameters and writes gradients and new parameters.
MOVED = 3 * PARAMETERS


def train_step(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y)
    loss.backward()
    optimizer.step()
    return loss, [p.grad for p in model.parameters()]


#: The rate of the check: a step of this size shows in every dtype.
CHECKED_RATE = 0.5


def with_a_step_that_shows(operation, model, optimizer, *args):
    """Make a step with a higher learning rate; return what the operation returns."""
    optimizer.param_groups[0]["lr"] = CHECKED_RATE
    return operation(model, optimizer, *args)


def moved_along_gradients(before):
    """Return a proof that each parameter moved by the rate times its gradient, to 2 ulp."""

    def proof(_, model, *__):
        for place, (was, now) in enumerate(zip(before, model.parameters(), strict=True)):
            wanted = was - CHECKED_RATE * double(now.grad)
            off = np.abs(double(now) - wanted)
            if not (off <= 2 * ulp(np.maximum(abs(was), abs(wanted)), now.dtype)).all():
                raise WrongAnswer(f"parameter {place} did not move along its gradient")

    return proof


@quick(batch=(64, 1024))
@pytest.mark.parametrize("batch", BATCHES)
def bench_step(cell, batch):
    training_work(cell, batch, MOVED)
    model = network(cell)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    proof = moved_along_gradients([double(p) for p in model.parameters()])
    seen = {"trial": with_a_step_that_shows, "proof": proof}
    cell(train_step, model, optimizer, *samples(cell, batch), terms=TERMS + batch, norm=2, **seen)


def autocast_step(model, optimizer, scaler, dtype, x, y):
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, dtype=dtype):
        loss = loss_of(model, x, y)
    if scaler is None:
        loss.backward()
        optimizer.step()
    else:
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return loss, [p.grad for p in model.parameters()]


def expected_autocast_step(model, optimizer, scaler, dtype, x, y):
    return loss_of(model, x, y), gradients(model, x, y)


@quick(batch=(64,))
@dtypes("float16", "bfloat16")
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_autocast_step(cell, batch):
    """Parameters in float32, the forward pass in the cell's dtype; float16 with a GradScaler."""
    training_work(cell, batch, MOVED, dtype=torch.float32)
    model = network(cell, torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    scaler = torch.amp.GradScaler(cell.device.type) if cell.dtype == torch.float16 else None
    images, labels = samples(cell, batch, torch.float32)
    cell(
        autocast_step,
        *(model, optimizer, scaler, cell.dtype, images, labels),
        against=expected_autocast_step,
        trial=with_a_step_that_shows,
        proof=moved_along_gradients([double(p) for p in model.parameters()]),
        terms=TERMS + batch,
        norm=2,
    )


@dtypes("float32", "bfloat16")
@pytest.mark.parametrize("compiled", values((), full=("forward_backward",)))
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_compiled(cell, batch, compiled):
    """`first_call_s` includes the compiler, which starts with empty caches."""
    training_work(cell, batch, moved=2 * PARAMETERS)
    cell.enter(compiler.fresh(cell.device))
    model = network(cell)
    fast = torch.compile(model, fullgraph=True)
    cell(
        lambda _, x, y: gradients(fast, x, y),
        *(model, *samples(cell, batch)),
        against=gradients,
        proof=lambda _, __, x, y: compiler.call_without_compiling(gradients, fast, x, y),
        terms=TERMS + batch,
        norm=2,
    )


BATCH = 64
PARTS = ("load", "transfer", "forward", "loss", "backward", "step", "item")
#: The row gets a note if the sum of the parts differs from the whole by more than this share.
MAX_GAP = 0.15
#: Median seconds of the parts timed so far in this process, by device and dtype.
_timed: dict[tuple[torch.device, torch.dtype], dict[str, float]] = {}


def loop_forever(loader):
    while True:
        yield from loader


def whole_step(batches, model, optimizer, loss_function):
    device = next(model.parameters()).device
    images, labels = next(batches)
    images, labels = images.to(device), labels.to(device)
    optimizer.zero_grad(set_to_none=True)
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def step_parts(cell):
    """Return each part of a step as a call without arguments, on the same batch."""
    model = network(cell)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    loss_function = nn.CrossEntropyLoss()
    images, labels = samples(cell, 8 * BATCH)
    dataset = torch.utils.data.TensorDataset(images.cpu(), labels.cpu())
    batches = loop_forever(torch.utils.data.DataLoader(dataset, BATCH))
    x, y = next(batches)
    on_device = x.to(cell.device), y.to(cell.device)
    logits = model(on_device[0])
    loss = loss_function(logits, on_device[1])
    parameters = list(model.parameters())

    loss.backward(retain_graph=True)
    kept = [p.grad for p in parameters]

    def step_and_zero():
        # As a backward pass does: without gradients a step does nothing.
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        "load": lambda: next(batches),
        "transfer": lambda: (x.to(cell.device), y.to(cell.device)),
        "forward": lambda: model(on_device[0]),
        "loss": lambda: loss_function(logits, on_device[1]),
        "backward": lambda: torch.autograd.grad(loss, parameters, retain_graph=True),
        "step": step_and_zero,
        "item": loss.item,
        "whole": lambda: whole_step(batches, model, optimizer, loss_function),
    }


@pytest.mark.parametrize("part", [*PARTS, "whole"])
def bench_step_part(cell, part):
    """Time each part alone; the row of the whole gets a note if their sum differs from it.

    `step` is the optimizer's step with its `zero_grad`.
    """
    cell.work(items=BATCH, unit="sample")
    cell(step_parts(cell)[part], check=cell.unchecked)
    if not cell.result.visits:
        return
    timed = _timed.setdefault((cell.device, cell.dtype), {})
    timed[part] = statistics.median(cell.result.visits[-1].rounds_s)
    if part == "whole" and timed.keys() >= set(PARTS):
        share = sum(timed[name] for name in PARTS) / timed[part]
        if not math.isclose(share, 1, abs_tol=MAX_GAP):
            cell.note(f"the parts timed apart add up to {share:.2f} of the whole: " + why(share))


def why(share):
    if share > 1:
        return "each part waits for the device or refills the caches"
    return "each part finds its data in the caches"
