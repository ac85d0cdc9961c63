"""What the network must compute, in float64 by NumPy, and the error that rounding may cause.

Beside each value stands the variance of its error, see `bench.measure.deviations`. No element may
be off by more than `SIGMAS` standard deviations.

Rounding may turn a unit near zero on or off, and with it a whole term of a gradient. So a gradient
follows the units that are on in the cell's dtype on its device, where rounding explains them.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.measure.arrays import Array, double, numbers, stored, ulp, unit
from bench.measure.deviations import SIGMAS, Arithmetic, Rough
from bench.measure.references import Reference, cascade, scale

#: Largest error of the mean loss of an epoch in units of u, and of the norm of the parameters after
#: it in standard deviations.
EPOCH_LOSS, EPOCH_NORM = 16, 5
#: A unit that turns on or off changes a step by a share of a sample's gradient, however few digits
#: rounding changes. Of the loss in float32, 18 u were seen; this is 256 u.
EPOCH_TURNED = 2.0**-16


def layers_of(model: nn.Module) -> Iterable[nn.Module]:
    """Return the layers of the network, without their parent."""
    return (layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.ReLU)))


def units_on(layers: Iterable[nn.Module], x: torch.Tensor) -> list[Array]:
    """Return which units of each ReLU are on, where the layers run in their dtype."""
    found = []
    for layer in layers:
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
        product = arithmetic.product(current, double(weight).T)
        value = product.value + double(bias)
        variance = product.variance + arithmetic.rounding(product.value)
        current = Rough(value, variance + arithmetic.rounding(value))
        if place == len(weights) - 1:
            return inputs, active, current
        reach = SIGMAS * current.deviation
        is_on = np.where(abs(value) <= reach, on[place], value > 0) if on else value > 0
        doubt = np.zeros(()) if on else (abs(value) <= 2 * current.deviation) / 4
        active.append(Rough(is_on, doubt))
        carried = is_on if on else value > -reach
        current = Rough(value * is_on, current.variance * carried)
    raise AssertionError("a network has layers")


def logits(
    dtype: torch.dtype, parameters: Sequence[torch.Tensor | Array], x: torch.Tensor, **facts: Any
) -> Reference:
    """Return the reference of the logits."""
    arithmetic = Arithmetic(dtype, x.device)
    return arithmetic.reference(forward(arithmetic, parameters, x.flatten(1))[2], **facts)


def outputs(model: nn.Module, x: torch.Tensor, requires_grad: bool = True) -> Reference:
    """Return the logits of the network."""
    return logits(x.dtype, list(model.parameters()), x, requires_grad=requires_grad)


def by_hand(x: torch.Tensor, *parameters: torch.Tensor) -> Reference:
    """Return the logits of a network that is given as weights and biases."""
    return logits(x.dtype, parameters, x, requires_grad=True)


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


def _descent(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[Rough, list[Rough]]:
    arithmetic = Arithmetic(x.dtype, x.device)
    on = units_on(layers_of(model), x.flatten(1))
    return descent(arithmetic, list(model.parameters()), x, y, on)[1:]


def _gradients(
    found: Sequence[Rough], dtype: torch.dtype, arithmetic: Arithmetic
) -> list[Reference]:
    return [arithmetic.reference(one, dtype, contiguous=False) for one in found]


def gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[Reference]:
    """Return the gradients of the parameters that need one."""
    found = _gradients(_descent(model, x, y)[1], x.dtype, Arithmetic(x.dtype, x.device))
    pairs = zip(model.parameters(), found, strict=True)
    return [gradient for parameter, gradient in pairs if parameter.requires_grad]


def mean_gradients(
    model: nn.Module, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[Reference]:
    """Return the means of the gradients of batches of one size, as ranks share a step."""
    x, count = batches[0][0], len(batches)
    arithmetic = Arithmetic(x.dtype, x.device)
    found = []
    for parts in zip(*(_descent(model, *batch)[1] for batch in batches), strict=True):
        value, variance, size = (
            sum(getattr(part, name) for part in parts) / power
            for name, power in (("value", count), ("variance", count**2), ("size", count))
        )
        rounding = (count - 1) * arithmetic.rounding(np.asarray(size))
        found.append(Rough(np.asarray(value), variance + rounding))
    return _gradients(found, x.dtype, arithmetic)


def three_times_the_gradients(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> list[Reference]:
    """Return the gradients after a backward pass of the loss, and one of twice the loss."""
    arithmetic = Arithmetic(x.dtype, x.device)
    rounding, found = arithmetic.rounding, _descent(model, x, y)[1]
    added = [Rough(3 * one.value, 9 * one.variance + rounding(3 * one.value)) for one in found]
    return _gradients(added, x.dtype, arithmetic)


def step(model: nn.Module, _: object, x: torch.Tensor, y: torch.Tensor) -> list[Any]:
    """Return the loss, and the gradients of a training step."""
    loss, found = _descent(model, x, y)
    arithmetic = Arithmetic(x.dtype, x.device)
    wanted = arithmetic.reference(loss, requires_grad=True)
    return [wanted, _gradients(found, x.dtype, arithmetic)]


def autocast_step(
    model: nn.Module, _: object, scaler: Any, dtype: torch.dtype, x: torch.Tensor, y: torch.Tensor
) -> list[Any]:
    """Return the loss, the gradients and the logits of a step in mixed precision."""
    loss_scale = scaler.get_scale() if scaler else 1.0
    arithmetic = Arithmetic(dtype, x.device, torch.float32, loss_scale)
    with torch.autocast(x.device.type, dtype=dtype):
        on = units_on(layers_of(model), x.flatten(1))
    parameters = [parameter.detach().to(dtype) for parameter in model.parameters()]
    found, loss, gradients = descent(arithmetic, parameters, x.to(dtype), y, on)
    wanted = arithmetic.reference(loss, torch.float32, requires_grad=True)
    output = arithmetic.reference(found, requires_grad=True)
    return [wanted, _gradients(gradients, torch.float32, arithmetic), output]


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
    loss, found = _descent(model, x, y)
    bound = SIGMAS * float(loss.deviation)
    return [Reference(loss.value, x.dtype, bound, kind=float), *moved(model, found, rate)]


def epoch(
    model: nn.Module, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], rate: float
) -> list[Reference]:
    """Return the mean loss of an epoch of gradient descent, and the parameters after it.

    Each step rounds the parameters. Where units are on differs from the cell, so only the norm of
    the deviation and the scale are bounded; the small updates that rounding loses may change it.
    """
    parameters = [double(parameter) for parameter in model.parameters()]
    dtype, device = next((one.dtype, one.device) for one in model.parameters())
    arithmetic, losses = Arithmetic(dtype, device), []
    errors = [0.0 for _ in parameters]
    for x, y in batches:
        _, loss, found = descent(arithmetic, parameters, x.to(dtype), y, [])
        losses.append(loss.value)
        for place, gradient in enumerate(found):
            parameters[place] = parameters[place] - rate * gradient.value
            errors[place] += rate**2 * float(gradient.variance.sum())
            errors[place] += float(arithmetic.rounding(parameters[place]).sum())
    mean = np.asarray(np.mean(losses))
    bound = max(EPOCH_LOSS * unit(dtype), EPOCH_TURNED) * float(mean)
    wanted = [Reference(mean, dtype, bound, kind=float)]
    for value, error in zip(parameters, errors, strict=True):
        size = float(np.linalg.norm(value))
        norm = EPOCH_NORM * math.sqrt(error) / size
        whole = 2 * scale(dtype) + SIGMAS * math.sqrt(error / value.size) / size
        wanted.append(Reference(value, dtype, math.inf, whole, norm, requires_grad=True))
    return wanted
