"""What the network must compute, in float64 by NumPy, and the error that rounding may cause.

Beside each value stands the variance of its error, see `bench.measure.deviations`. No element may
be off by more than `SIGMAS` standard deviations.

Rounding may turn a unit near zero on or off, and with it a whole term of a gradient. So a gradient
follows the units that are on in the cell's dtype on its device, where rounding explains them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.measure.answer import WrongAnswer
from bench.measure.arrays import Array, double, numbers, stored, ulp, unit
from bench.measure.deviations import SIGMAS, Arithmetic, Rough
from bench.measure.references import Reference, cascade, scale

#: Largest relative error of a sum in float32 per term.
LOSS_SUM = unit(torch.float32)


def units_on(model: nn.Module, x: torch.Tensor) -> list[Array]:
    """Return which units of each ReLU are on, where the layers run in their dtype."""
    found, x = [], x.flatten(1)
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.ReLU)):
            x = layer(x)
        if isinstance(layer, nn.ReLU):
            found.append(stored(x > 0))
    return found


def forward(
    arithmetic: Arithmetic,
    parameters: Sequence[torch.Tensor | Array],
    x: torch.Tensor,
    on: Sequence[Array] = (),
) -> tuple[list[Rough], list[Rough], Rough]:
    """Return the inputs of the layers, which units are on (1 or 0), and the logits.

    `parameters` are weight and bias of each layer, `x` its samples as rows. With the units that
    are `on` in the cell, those near zero are as there. Without them, those within two standard
    deviations may be either, with the variance of a coin.
    """
    current = Rough(double(x), arithmetic.narrow(np.zeros(x.shape)))
    inputs: list[Rough] = []
    active: list[Rough] = []
    weights = list(zip(parameters[::2], parameters[1::2], strict=True))
    for place, (weight, bias) in enumerate(weights):
        inputs.append(current)
        product = arithmetic.rounded(arithmetic.product(current, double(weight).T))
        value = product.value + double(bias)
        current = arithmetic.rounded(Rough(value, product.variance))
        if place == len(weights) - 1:
            break
        reach = SIGMAS * current.deviation
        is_on = np.where(abs(value) <= reach, on[place], value > 0) if on else value > 0
        doubt = np.zeros(()) if on else (abs(value) <= 2 * current.deviation) / 4
        active.append(Rough(is_on, doubt))
        carried = is_on if on else value > -reach
        current = Rough(value * is_on, current.variance * carried)
    return inputs, active, current


def by_hand(x: torch.Tensor, *parameters: torch.Tensor, requires_grad: bool = True) -> Reference:
    """Return the logits of a network that is given as weights and biases."""
    arithmetic = Arithmetic(x.dtype, x.device)
    found = forward(arithmetic, parameters, x.flatten(1))[2]
    return arithmetic.reference(found, requires_grad=requires_grad)


def outputs(model: nn.Module, x: torch.Tensor, requires_grad: bool = True) -> Reference:
    """Return the logits of the network."""
    return by_hand(x, *model.parameters(), requires_grad=requires_grad)


def descent(
    arithmetic: Arithmetic,
    parameters: Sequence[torch.Tensor | Array],
    x: torch.Tensor,
    y: torch.Tensor,
    on: Sequence[Array],
) -> tuple[Rough, Rough, list[Rough]]:
    """Return the logits, the mean cross entropy (), and the gradients of all parameters."""
    inputs, active, found = forward(arithmetic, parameters, x.flatten(1), on)
    count, labels = len(x), numbers(y)
    shifted = found.value - found.value.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    share, deviation = np.exp(logs), found.deviation
    rows = np.arange(count)
    delta = share.copy()
    delta[rows, labels] -= 1
    delta /= count
    logarithm = arithmetic.logarithm(logs)
    each = (abs(delta) * deviation).sum(1) ** 2 + logarithm[rows, labels] / count**2
    value = np.asarray(-logs[rows, labels].mean())
    added = cascade(count, arithmetic.of_loss or arithmetic.dtype) * value
    loss = Rough(value, np.asarray(each.sum() + arithmetic.logarithm(value) + added**2))
    moved = deviation + (share * deviation).sum(1, keepdims=True)
    variance = (share / count) ** 2 * (moved**2 + logarithm)
    variance = variance + 2 * arithmetic.rounding(delta, arithmetic.loss_scale)
    back, gradients = Rough(delta, arithmetic.narrow(variance)), []
    ones = Rough(np.ones((count, 1)), arithmetic.narrow(np.zeros((count, 1))))
    for place in reversed(range(len(inputs))):
        bias = arithmetic.outer(back, ones)
        gradients += [Rough(bias.value[:, 0], bias.variance[:, 0])]
        gradients += [arithmetic.outer(back, inputs[place])]
        if place:
            back = arithmetic.product(back, double(parameters[2 * place]))
            variance = back.variance + arithmetic.rounding(back.value, arithmetic.loss_scale)
            units = active[place - 1]
            variance = variance * units.value + back.value**2 * units.variance
            back = Rough(back.value * units.value, arithmetic.narrow(variance))
    return found, loss, gradients[::-1]


def _descent(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> tuple[Arithmetic, Rough, list[Rough]]:
    """Return the arithmetic of a batch, the loss and the gradients."""
    arithmetic = Arithmetic(x.dtype, x.device)
    found = descent(arithmetic, list(model.parameters()), x, y, units_on(model, x))
    return arithmetic, *found[1:]


def _gradients(
    arithmetic: Arithmetic, found: Iterable[Rough], dtype: torch.dtype | None = None
) -> list[Reference]:
    return [arithmetic.reference(one, dtype, contiguous=False) for one in found]


def gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[Reference]:
    """Return the gradients of the parameters that need one."""
    arithmetic, _, found = _descent(model, x, y)
    pairs = zip(model.parameters(), _gradients(arithmetic, found), strict=True)
    return [gradient for parameter, gradient in pairs if parameter.requires_grad]


def mean_gradients(
    model: nn.Module, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[Reference]:
    """Return the means of the gradients of batches of one size, as ranks share a step."""
    x, count = batches[0][0], len(batches)
    arithmetic = Arithmetic(x.dtype, x.device)
    found = []
    for parts in zip(*(_descent(model, *batch)[2] for batch in batches), strict=True):
        value, variance, size = (
            sum(getattr(part, name) for part in parts) / power
            for name, power in (("value", count), ("variance", count**2), ("size", count))
        )
        rounding = (count - 1) * arithmetic.rounding(np.asarray(size))
        found.append(Rough(np.asarray(value), variance + rounding))
    return _gradients(arithmetic, found)


def three_times_the_gradients(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> list[Reference]:
    """Return the gradients after a backward pass of the loss, and one of twice the loss."""
    arithmetic, _, found = _descent(model, x, y)
    added = (arithmetic.rounded(Rough(3 * one.value, 9 * one.variance)) for one in found)
    return _gradients(arithmetic, added)


def step(model: nn.Module, _: object, x: torch.Tensor, y: torch.Tensor) -> list[Any]:
    """Return the loss, and the gradients of a training step."""
    arithmetic, loss, found = _descent(model, x, y)
    return [arithmetic.reference(loss, requires_grad=True), _gradients(arithmetic, found)]


def autocast_step(
    model: nn.Module, _: object, scaler: Any, dtype: torch.dtype, x: torch.Tensor, y: torch.Tensor
) -> list[Any]:
    """Return the loss, the gradients and the logits of a step in mixed precision."""
    loss_scale = scaler.get_scale() if scaler else 1.0
    arithmetic = Arithmetic(dtype, x.device, torch.float32, loss_scale)
    with torch.autocast(x.device.type, dtype=dtype):
        on = units_on(model, x)
    parameters = [parameter.detach().to(dtype) for parameter in model.parameters()]
    found, loss, gradients = descent(arithmetic, parameters, x.to(dtype), y, on)
    wanted = arithmetic.reference(loss, torch.float32, requires_grad=True)
    output = arithmetic.reference(found, requires_grad=True)
    return [wanted, _gradients(arithmetic, gradients, torch.float32), output]


def moved(model: nn.Module, gradients: Sequence[Rough], rate: float) -> list[Reference]:
    """Return the parameters after a step along gradients: a product and a sum are rounded."""
    found = []
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        value = double(parameter) - rate * gradient.value
        bound = ulp(rate * gradient.value, parameter.dtype) + ulp(value, parameter.dtype)
        bound += SIGMAS * rate * gradient.deviation
        whole = scale(parameter.dtype)
        found.append(Reference(value, parameter.dtype, bound, whole, requires_grad=True))
    return found


def trained(model: nn.Module, x: torch.Tensor, y: torch.Tensor, rate: float) -> list[Reference]:
    """Return the loss of a step as a number, and the parameters after it."""
    _, loss, found = _descent(model, x, y)
    bound = SIGMAS * float(loss.deviation)
    return [Reference(loss.value, x.dtype, bound, kind=float), *moved(model, found, rate)]


def _sum_of_gradients(found: Rough) -> Reference:
    """Return the reference of gradients that were added up in float64.

    Images resemble each other, and so do their roundings: on average a gradient may be off by
    `SIGMAS` standard deviations, an element by twice as many (3.1 and 8.4 were seen).
    """
    bound = 2 * SIGMAS * np.sqrt(found.variance.astype(np.float64))
    norm = SIGMAS * math.sqrt(float(found.variance.sum())) / float(np.linalg.norm(found.value))
    place = torch.device("cpu")
    return Reference(found.value, torch.float64, bound, norm=norm, device=place)


@dataclass
class Steps:
    """What an epoch of gradient descent did in each step, seen through the hooks of PyTorch.

    Errors of one step grow in the next ones. So each step is compared with float64 from where it
    started: from the parameters and the units that are on, as they were on the device.
    """

    starts: list[list[torch.Tensor]] = field(default_factory=list)
    gradients: list[list[torch.Tensor]] = field(default_factory=list)
    on: list[Array] = field(default_factory=list)

    def during(
        self, operation: Callable[..., float], model: nn.Module, optimizer: Any
    ) -> list[Any]:
        """Run an epoch; return its mean loss, the parameters after it, and sums of gradients."""
        self.starts, self.gradients, self.on = [], [], []
        parameters = list(model.parameters())

        def before_step(*_: object) -> None:
            self.starts.append([one.detach().clone() for one in parameters])
            kept = [
                one.new_zeros(()).expand_as(one) if one.grad is None else one.grad.clone()
                for one in parameters
            ]
            self.gradients.append(kept)

        def after_relu(_: object, __: object, output: torch.Tensor) -> None:
            self.on.append(stored(output > 0))

        units = [layer for layer in model.modules() if isinstance(layer, nn.ReLU)]
        hooks = [layer.register_forward_hook(after_relu) for layer in units]
        hooks.append(optimizer.register_step_pre_hook(before_step))
        try:
            loss = operation(model, optimizer)
        finally:
            for hook in hooks:
                hook.remove()
        sums = [sum(map(double, each)) for each in zip(*self.gradients, strict=True)]
        return [loss, *parameters, *map(torch.from_numpy, sums)]

    @np.errstate(over="ignore", invalid="ignore")  # of a training that diverges
    def reference(
        self, model: nn.Module, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], rate: float
    ) -> list[Reference]:
        """Return what `during` must return for these batches, from the model before the epoch.

        Raises WrongAnswer for another number of steps.
        """
        relus = len(self.on) // len(batches)
        if (len(self.starts), len(self.on)) != (len(batches), relus * len(batches)):
            raise WrongAnswer(f"{len(self.starts)} steps of the optimizer, not {len(batches)}")
        dtype, device = next((one.dtype, one.device) for one in model.parameters())
        arithmetic, loss = Arithmetic(dtype, device), Rough.exact(np.zeros(()))
        sums = [Rough.exact(np.zeros(one.shape)) for one in model.parameters()]
        for number, (x, y) in enumerate(batches):
            on = self.on[relus * number : relus * (number + 1)]
            _, one, found = descent(arithmetic, self.starts[number], x.to(dtype), y, on)
            loss += one
            sums = [a + b for a, b in zip(sums, found, strict=True)]
        # The losses are added up in float32.
        bound = SIGMAS * float(loss.deviation) + len(batches) * LOSS_SUM * float(loss.value)
        if not math.isfinite(bound):
            raise WrongAnswer("the training diverges")
        mean = Reference(loss.value / len(batches), dtype, bound / len(batches), kind=float)
        return [mean, *self._ends(model, rate), *map(_sum_of_gradients, sums)]

    def _ends(self, model: nn.Module, rate: float) -> Iterator[Reference]:
        """Yield the parameters after the last step. Each step loses what two roundings explain."""
        for place, before in enumerate(model.parameters()):
            end, bound = double(before), np.zeros(())
            for starts, gradients in zip(self.starts, self.gradients, strict=True):
                lost = np.clip(double(starts[place]) - end, -bound, bound)
                change = rate * double(gradients[place])
                end = end + lost - change
                bound = ulp(change, before.dtype) + ulp(end, before.dtype)
            yield Reference(end, before.dtype, bound, requires_grad=True)
