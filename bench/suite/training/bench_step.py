"""One training step: over batch sizes, in mixed precision, and in its parts."""

import math
import statistics
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.measure.answer import WrongAnswer, judge
from bench.measure.arrays import double
from bench.measure.deviations import Rough
from bench.measure.proofs import aliases, fresh
from bench.measure.references import cross_entropy, item, same
from bench.suite.axes import dtypes, quick, values
from bench.suite.training import compiler, expected
from bench.suite.training.models import (
    BACKWARD_FLOP,
    BATCHES,
    CHECKED_RATE,
    LEARNING_RATE,
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

#: Numbers a step moves: it reads the parameters and writes gradients and new parameters.
MOVED = 3 * PARAMETERS


def train_step(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, x, y)
    loss.backward()
    optimizer.step()
    return loss, [p.grad for p in model.parameters()]


def with_a_step_that_shows(operation, model, optimizer, *args):
    """Make a step with a higher learning rate; return what the operation returns."""
    optimizer.param_groups[0]["lr"] = CHECKED_RATE
    return operation(model, optimizer, *args)


def moved_along_gradients(before):
    """Return a proof that each parameter of the model `before` moved along its gradient."""

    def proof(_, model, *__):
        parameters = list(model.parameters())
        gradients = [Rough.exact(double(parameter.grad)) for parameter in parameters]
        wanted = expected.moved(before, gradients, CHECKED_RATE)
        if fault := judge(parameters, wanted, parameters[0].device).fault:
            raise WrongAnswer(f"parameters did not move along their gradients: {fault}")

    return proof


@quick(batch=(64, 1024))
@pytest.mark.parametrize("batch", BATCHES)
def bench_step(cell, batch):
    training_work(cell, batch, MOVED)
    model = with_gradients(cell, network(cell))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    proof = moved_along_gradients(network(cell))
    seen = {"expect": expected.step, "trial": with_a_step_that_shows, "proof": proof}
    cell(train_step, model, optimizer, *samples(cell, batch), changes=True, **seen)


def autocast_step(model, optimizer, scaler, dtype, x, y):
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, dtype=dtype):
        output = model(x)
        loss = nn.functional.cross_entropy(output, y)
    if scaler is None:
        loss.backward()
        optimizer.step()
    else:
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return loss, [p.grad for p in model.parameters()], output


@quick(batch=(64,))
@dtypes("float16", "bfloat16")
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_autocast_step(cell, batch):
    """Parameters in float32, the forward pass in the cell's dtype; float16 with a GradScaler."""
    training_work(cell, batch, MOVED, dtype=torch.float32)
    model = with_gradients(cell, network(cell, torch.float32))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    scaler = torch.amp.GradScaler(cell.device.type) if cell.dtype == torch.float16 else None
    proof = moved_along_gradients(network(cell, torch.float32))
    seen = {"expect": expected.autocast_step, "trial": with_a_step_that_shows, "proof": proof}
    args = model, optimizer, scaler, cell.dtype, *samples(cell, batch, torch.float32)
    cell(autocast_step, *args, changes=True, **seen)


@dtypes("float32", "bfloat16")
@pytest.mark.parametrize("compiled", values((), full=("forward_backward",)))
@pytest.mark.parametrize("batch", values((64,), full=(1, 1024)))
def bench_compiled(cell, batch, compiled):
    """`first_call_s` includes the compiler, which starts with empty caches."""
    training_work(cell, batch, moved=2 * PARAMETERS)
    cell.enter(compiler.fresh(cell.device))
    model = with_gradients(cell, network(cell))
    fast = torch.compile(model, fullgraph=True)
    seen = {"proof": lambda _, __, x, y: compiler.call_without_compiling(gradients, fast, x, y)}
    call, args = lambda _, x, y: gradients(fast, x, y), (model, *samples(cell, batch))
    cell(call, *args, expect=expected.gradients, **seen)


BATCH = 64
PARTS = ("load", "transfer", "forward", "loss", "backward", "step", "item")
#: The row gets a note if the sum of the parts differs from the whole by more than this share.
MAX_GAP = 0.15
#: Median seconds of the parts timed so far in this process, by device and dtype.
_timed: dict[tuple[torch.device, torch.dtype], dict[str, float]] = {}


class Endless:
    """The batches of a loader, epoch after epoch; a copy starts at the first one."""

    def __init__(self, loader):
        self._loader, self._batches = loader, iter(loader)

    def __next__(self):
        try:
            return next(self._batches)
        except StopIteration:
            self._batches = iter(self._loader)
            return next(self._batches)

    def __deepcopy__(self, _):
        return Endless(self._loader)


def whole_step(model, optimizer, batches, loss_function):
    device = next(model.parameters()).device
    images, labels = next(batches)
    images, labels = images.to(device), labels.to(device)
    optimizer.zero_grad(set_to_none=True)
    loss = loss_function(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def to_device(images, labels, device):
    return images.to(device), labels.to(device)


def step_and_zero(model, optimizer):
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def step_parts(cell):
    """Return the call of each part of a step on the same batch, and how it is checked."""
    model = with_gradients(cell, network(cell))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    loss_function = nn.CrossEntropyLoss()
    images, labels = samples(cell, 8 * BATCH)
    dataset = torch.utils.data.TensorDataset(images.cpu(), labels.cpu())
    batches = Endless(torch.utils.data.DataLoader(dataset, BATCH))
    on_host = images[:BATCH].cpu(), labels[:BATCH].cpu()
    x, y = images[:BATCH].clone(), labels[:BATCH].clone()
    loss, parameters = loss_of(model, x, y), list(model.parameters())
    logits = model(x).detach().requires_grad_()
    kept = [p.clone() for p in torch.autograd.grad(loss, parameters, retain_graph=True)]

    def give_gradients(model, _):
        # As a backward pass does: without gradients a step does nothing.
        for parameter, gradient in zip(model.parameters(), kept, strict=True):
            parameter.grad = gradient

    def two_batches(_):
        wanted = [same(part[k * BATCH :][:BATCH]) for k in (0, 1) for part in (images, labels)]
        return [replace(one, device=torch.device("cpu")) for one in wanted]

    def with_parameters(operation, model, optimizer, *args):
        result = with_a_step_that_shows(operation, model, optimizer, *args)
        return [*([] if result is None else [result]), *model.parameters()]

    proof = (lambda both, x, *_: aliases(both[0], x)) if cell.device.type == "cpu" else fresh
    exact = [Rough.exact(double(gradient)) for gradient in kept]
    trains = {"changes": True, "trial": with_parameters}
    return {
        "load": (
            (next, batches),
            {"expect": two_batches, "trial": lambda call, source: [call(source), call(source)]},
        ),
        "transfer": (
            (to_device, *on_host, cell.device),
            {"expect": lambda x, y, _: [same(x), same(y)], "proof": proof},
        ),
        "forward": ((nn.Module.__call__, model, x), {"expect": expected.outputs}),
        "loss": ((loss_function, logits, y), {"expect": cross_entropy}),
        "backward": (
            (lambda *_: torch.autograd.grad(loss, parameters, retain_graph=True), model, x, y),
            {"expect": expected.gradients},
        ),
        "step": (
            (step_and_zero, model, optimizer),
            trains
            | {"expect": lambda model, _: expected.moved(model, exact, CHECKED_RATE)}
            | {"prepare": give_gradients, "proof": without_gradients},
        ),
        "item": ((torch.Tensor.item, loss.detach()), {"expect": item}),
        "whole": (
            (whole_step, model, optimizer, batches, loss_function),
            trains | {"expect": lambda model, *_: expected.trained(model, x, y, CHECKED_RATE)},
        ),
    }


def without_gradients(parameters, *_):
    """Prove that no gradient is left."""
    if any(parameter.grad is not None for parameter in parameters):
        raise WrongAnswer("a gradient is left over")


def declare_part(cell, part):
    """Declare the work of a part of the step, or of all of them."""
    labels = BATCH * torch.int64.itemsize
    moved = {
        "load": 2 * (cell.nbytes(BATCH * SIZES[0]) + labels),
        "transfer": 2 * (cell.nbytes(BATCH * SIZES[0]) + labels),
        "loss": cell.nbytes(BATCH * SIZES[-1] + 1) + labels,
        "step": cell.nbytes(MOVED),
        "item": cell.nbytes(1),
    }
    if part == "forward":
        forward_work(cell, BATCH)
    elif part == "backward":
        training_work(cell, BATCH, backward_moved(BATCH), BACKWARD_FLOP)
    elif part == "whole":
        training_work(cell, BATCH, MOVED)
    else:
        cell.work(items=BATCH, unit="sample", bytes=moved[part])


def compare_with_the_whole(cell, part):
    """Keep the time of the part; note it in the row of the whole if their sum differs from it."""
    if not cell.result.visits:
        return
    timed = _timed.setdefault((cell.device, cell.dtype), {})
    timed[part] = statistics.median(cell.result.visits[-1].rounds_s)
    if part == "whole" and timed.keys() >= set(PARTS):
        share = sum(timed[name] for name in PARTS) / timed[part]
        if not math.isclose(share, 1, abs_tol=MAX_GAP):
            apart = "waits for the device or refills the caches"
            why = apart if share > 1 else "finds its data in the caches"
            cell.note(f"the parts timed apart add up to {share:.2f} of the whole: each part {why}")


@pytest.mark.parametrize("part", [*PARTS, "whole"])
def bench_step_part(cell, part):
    """Time each part alone; the row of the whole gets a note if their sum differs from it.

    `step` is the optimizer's step with its `zero_grad`.
    """
    declare_part(cell, part)
    call, seen = step_parts(cell)[part]
    cell(*call, **seen)
    compare_with_the_whole(cell, part)
