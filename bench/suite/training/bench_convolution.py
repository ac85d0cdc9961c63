"""Convolutions of 3x3 as in the four stages of a ResNet, and their backward pass."""

import pytest
import torch

from bench.measure.layers import convolution_gradients, convolved
from bench.suite.axes import FLOAT32, FLOATING, dtypes, values
from bench.suite.layouts import FORMATS

GROUP = "convolutions and attention"
pytestmark = dtypes(*FLOATING, default=FLOAT32)

#: Side of the image -> channels; each stage has the same number of operations.
STAGES = {56: 64, 28: 128, 14: 256, 7: 512}


def images(cell, side, batch, layout):
    """Return images and a kernel, and declare the work of one pass over them."""
    channels = STAGES[side]
    x = cell.tensor(batch, channels, side, side)
    weight = cell.tensor(channels, channels, 3, 3, seed=1)
    flop = 2 * batch * channels * channels * 9 * side * side
    cell.work(items=batch, unit="image", bytes=2 * x.nbytes + weight.nbytes, flop=flop)
    return (one.contiguous(memory_format=FORMATS[layout]) for one in (x, weight))


@pytest.mark.parametrize("layout", list(FORMATS))
@pytest.mark.parametrize("batch", values((1,), full=(16,)))
@pytest.mark.parametrize("side", values((56, 14), full=(28, 7)))
def bench_conv2d(cell, side, batch, layout):
    x, weight = images(cell, side, batch, layout)
    cell(torch.nn.functional.conv2d, x, weight, padding=1, expect=convolved)


def both_gradients(x, weight, grad):
    y = torch.nn.functional.conv2d(x, weight, padding=1)
    return torch.autograd.grad(y, (x, weight), grad)


@pytest.mark.parametrize("layout", list(FORMATS))
@pytest.mark.parametrize("batch", values((1,), full=(16,)))
@pytest.mark.parametrize("side", values((14,), full=(56, 28, 7)))
def bench_conv2d_backward(cell, side, batch, layout):
    x, weight = (one.requires_grad_() for one in images(cell, side, batch, layout))
    cell.work(items=batch, unit="image", flop=3 * cell.result.flop)
    grad = cell.tensor(*x.shape, seed=2).contiguous(memory_format=FORMATS[layout])
    cell(both_gradients, x, weight, grad, expect=convolution_gradients)
