"""What layers of networks must return, and how far rounding may take each element from it.

As `bench.measure.references`, which explains the symbols of the formulas: convolution, attention,
normalisation, recurrent layers, prefix sums, indexing.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench.measure.answer import Answer, judge
from bench.measure.arrays import Array, accumulator, double, numbers, ulp, unit, wide
from bench.measure.deviations import SIGMAS, Arithmetic, Rough
from bench.measure.references import Reference, product, scale, sum_error

#: An algorithm for convolutions of 3x3 may transform its tiles (Winograd), which loses two bits
#: (A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016).
TILES = 4
#: Queries of attention at a time, because the scores of all of them can be larger than the memory.
QUERIES = 256
#: What normalisations add to a variance, by default in torch.
EPS = 1e-5


def _rounds_twice(dtype: torch.dtype) -> float:
    """Return u of a 16-bit dtype in which intermediate values may be stored, 0 for others."""
    return unit(dtype) if dtype.itemsize == 2 else 0.0


def convolved(x: torch.Tensor, weight: torch.Tensor, padding: int = 1, parts: int = 0) -> Reference:
    """Return conv2d of images (batch, channels, height, width): sums of channels * side**2 terms.

    The bound is that of a sum, `TILES` times; the squares of a kernel count as its largest. In 16
    bits, so many `parts` of the sum may be added up in 16 bits.
    """
    a, w = double(x), double(weight)
    pad = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    side = w.shape[-1]

    def sums(image: Array, kernel: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, pad), (side, side), (2, 3))
        return np.tensordot(windows, kernel, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)

    exact = sums(a, w)
    squares = sums((a * a).sum(1, keepdims=True), np.ones((1, 1, side, side)))
    root = np.sqrt(squares * (w * w).max((1, 2, 3)).reshape(1, -1, 1, 1))
    bound = TILES * sum_error(exact, root, w[0].size, x)
    bound = bound + 4 * math.sqrt(parts) * _rounds_twice(x.dtype) * (np.abs(exact) + root)
    grad = x.requires_grad or weight.requires_grad
    whole = scale(x.dtype)
    return Reference(exact, x.dtype, bound, whole, requires_grad=grad, contiguous=False)


def convolution_gradients(x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> Any:
    """Return the gradients of conv2d for x and for a 3x3 kernel; both are convolutions.

    The sum over the places of the kernel may be made in the dtype itself.
    """
    image, kernel = x.detach(), weight.detach()
    of_x = convolved(grad, kernel.flip(2, 3).transpose(0, 1), parts=9)
    turned = convolved(image.transpose(0, 1), grad.transpose(0, 1), parts=9)
    assert isinstance(turned.values, np.ndarray)
    assert isinstance(turned.bound, np.ndarray)
    values, bound = turned.values.swapaxes(0, 1), turned.bound.swapaxes(0, 1)
    return of_x, replace(turned, values=values, bound=bound)


def attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, is_causal: bool = False
) -> Reference:
    """Return softmax(q k.T / sqrt(d)) v: the errors of the scores, carried through the softmax.

    A score with the error e changes its weight p by the share e - sum(p e). Both factors of the
    scores, the scores, and the weights may be rounded. The result may have the strides of q.
    """
    arithmetic, a = Arithmetic(q.dtype, q.device), double(q) / math.sqrt(q.shape[-1])
    keys, values = double(k).swapaxes(-1, -2), double(v)
    parts = []
    for first in range(0, a.shape[-2], QUERIES):
        rows = a[..., first : first + QUERIES, :]
        given = Rough(rows, 2 * arithmetic.rounding(rows))
        scores = arithmetic.rounded(arithmetic.product(given, keys))
        exact = scores.value
        if is_causal:
            exact = np.where(np.tri(rows.shape[-2], keys.shape[-1], first) > 0, exact, -np.inf)
        weights = np.exp(exact - exact.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        squares = 2 * (weights**2 * scores.variance + arithmetic.rounding(weights))
        part = arithmetic.product(Rough(weights, arithmetic.narrow(squares)), values)
        common = part.value**2 * squares.sum(-1, keepdims=True)
        parts.append(arithmetic.rounded(Rough(part.value, part.variance + common)))
    value, variance = (
        np.concatenate(several, -2)
        for several in zip(*((one.value, one.variance) for one in parts), strict=True)
    )
    return arithmetic.reference(Rough(value, variance), strides=q.stride())


def _normalised(x: torch.Tensor, axes: tuple[int, ...], weight: Array, bias: Array) -> Reference:
    """Return (x - mean) / sqrt(var + EPS) * weight + bias, with means over n numbers of `axes`.

    2 ulp, and the errors of both means, 8 + sqrt(n) of their accumulator. In 16 bits the factor and
    the summand of x may be stored in 16 bits. The factor has two roundings, which a whole group of
    elements shares; these of the groups are independent, and count in the scale.
    """
    values = wide(x)
    count = math.prod(values.shape[axis] for axis in axes)
    mean = values.mean(axes, keepdims=True)
    off = values - mean
    factor = weight / np.sqrt((off * off).mean(axes, keepdims=True) + EPS)
    ratio = off * factor
    exact = ratio + bias
    inner = (8 + math.sqrt(count)) * accumulator(x.dtype)
    stored = np.abs(ratio) + np.abs(bias) + 2 * np.abs(mean * factor)
    bound = 2 * ulp(exact, x.dtype) + inner * (np.abs(ratio) + np.abs(weight) + stored)
    bound = bound + 2 * _rounds_twice(x.dtype) * stored
    energy = (exact * exact).sum(axes)
    shared = SIGMAS * (math.sqrt(2 / 3) * unit(x.dtype) + inner) * np.linalg.norm(energy)
    whole = scale(x.dtype) + float(shared / energy.sum())
    return Reference(exact, x.dtype, bound, whole)


def layer_norm(x: torch.Tensor, shape: Any, weight: torch.Tensor, bias: torch.Tensor) -> Reference:
    """Return the normalisation over the last axis."""
    return _normalised(x, (-1,), wide(weight), wide(bias))


def batch_norm(
    x: torch.Tensor, _: Any, __: Any, weight: torch.Tensor, bias: torch.Tensor, training: bool
) -> Reference:
    """Return the normalisation of each channel over batch, height and width."""
    shape = (1, -1, 1, 1)
    found = _normalised(x, (0, 2, 3), wide(weight).reshape(shape), wide(bias).reshape(shape))
    return replace(found, strides=x.stride())


def cumulated(x: torch.Tensor, dim: int) -> Reference:
    """Return the prefix sums along `dim`; an accelerator may keep them in 16 bits."""
    values = wide(x)
    exact, root = values.cumsum(dim), np.sqrt((values * values).cumsum(dim))
    terms = x.shape[dim]
    bound = sum_error(exact, root, terms, x)
    if x.device.type != "cpu":
        bound = bound + 4 * math.sqrt(terms) * _rounds_twice(x.dtype) * (np.abs(exact) + root)
    return Reference(exact, x.dtype, bound, scale(x.dtype))


def rows(index: torch.Tensor, table: torch.Tensor) -> Reference:
    """Return the rows of a table at an index: embedding."""
    return Reference(numbers(table)[numbers(index)], table.dtype)


def selected(x: torch.Tensor, dim: int, index: torch.Tensor) -> Reference:
    """Return the slices of x at an index along `dim`: index_select."""
    return Reference(numbers(x).take(numbers(index), dim), x.dtype)


def gathered(x: torch.Tensor, dim: int, index: torch.Tensor) -> Reference:
    """Return for each place the element at its own index along `dim`."""
    return Reference(np.take_along_axis(numbers(x), numbers(index), dim), x.dtype)


def scattered(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> Reference:
    """Return x with each element of `source` added at its index: exact for small integers."""
    exact = double(x).copy()
    np.add.at(exact, numbers(index), double(source))
    return Reference(exact, x.dtype)


def contracted(_: str, x: torch.Tensor, y: torch.Tensor) -> Reference:
    """Return ``bhqd,bhkd->bhqk``, the scores of attention, as a product."""
    return product(x, y.transpose(-1, -2))


def recurrent(layer: torch.nn.RNNBase, x: torch.Tensor) -> list[Reference]:
    """Return all outputs of a layer of LSTM or GRU and its last state, for (time, batch, features).

    Each sum, product and gate is rounded, a gate to 2 ulp. Each step carries the errors of its
    state on.
    """
    w, u, b, c = (double(p) for p in layer.parameters())
    arithmetic, parts = Arithmetic(x.dtype, x.device), len(b) // layer.hidden_size
    rounded = arithmetic.rounded
    state = cell = Rough.exact(np.zeros((x.shape[1], layer.hidden_size)))

    def linear(values: Rough, weight: Array, bias: Array) -> list[Rough]:
        found = rounded(arithmetic.product(values, weight.T))
        found = rounded(Rough(found.value + bias, found.variance))
        pairs = (np.split(one, parts, 1) for one in (found.value, found.variance))
        return [Rough(*one) for one in zip(*pairs, strict=True)]

    def gate(of: Rough, tanh: bool = False) -> Rough:
        of = rounded(of)
        exact = np.tanh(of.value) if tanh else 1 / (1 + np.exp(-of.value))
        slope = 1 - exact * exact if tanh else exact * (1 - exact)
        return Rough(exact, slope**2 * of.variance + arithmetic.logarithm(exact))

    outputs = []
    for step in double(x):
        given, kept = linear(Rough.exact(step), w, b), linear(state, u, c)
        if parts == 4:
            i, f, z, o = (gate(given[n] + kept[n], n == 2) for n in range(4))
            cell = rounded(rounded(f * cell) + rounded(i * z))
            state = rounded(o * gate(cell, True))
        else:
            r, z = (gate(given[n] + kept[n]) for n in range(2))
            new = gate(given[2] + rounded(r * kept[2]), True)
            change = Rough(state.value - new.value, state.variance + new.variance)
            state = rounded(new + rounded(z * rounded(change)))
        outputs.append((state.value, state.variance))
    last = [state, cell][: parts - 2]
    states = [Rough(one.value[None], one.variance[None]) for one in last]
    found = [Rough(*map(np.stack, zip(*outputs, strict=True))), *states]
    return [arithmetic.reference(one, requires_grad=True) for one in found]


def ordered(result: Any, x: torch.Tensor, *given: Any, **_: Any) -> Answer:
    """Check ``sort`` or ``topk(count)`` of the last axis: exact values, and where they were."""
    values, places = numbers(x), numbers(result.indices)
    wanted = np.sort(values, -1)
    count = next((one for one in given if isinstance(one, int)), None)
    wanted = wanted if count is None else wanted[..., ::-1][..., :count]
    if not np.array_equal(numbers(result.values), wanted):
        return Answer(fault="the values are not those of NumPy's sort")
    inside = ((places >= 0) & (places < values.shape[-1])).all()
    if not inside or not np.array_equal(np.take_along_axis(values, places, -1), wanted):
        return Answer(fault="the indices are not those of the values")
    if (np.diff(np.sort(places, -1), axis=-1) == 0).any():
        return Answer(fault="an index occurs twice")
    if (result.values.dtype, result.indices.dtype) != (x.dtype, torch.int64):
        return Answer(fault=f"dtypes {result.values.dtype}, {result.indices.dtype}")
    if not (result.values.is_contiguous() and result.indices.is_contiguous()):
        return Answer(fault=f"strides {result.values.stride()}, {result.indices.stride()}")
    same = result.values.device == x.device == result.indices.device
    return Answer(0.0, 0.0, "" if same else f"on device {result.values.device}")


def sampled_product(result: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Answer:
    """Check some rows of a large matrix product exactly, and all of them by a checksum.

    The reference of all elements would take minutes. The product with a vector v of signs is
    x (y v) (R. Freivalds, "Fast probabilistic algorithms", MFCS 1979); the errors of the n terms
    add up like independent ones.
    """
    if result.dtype != x.dtype or result.shape != (x.shape[0], y.shape[1]):
        return Answer(fault=f"{result.dtype}, {tuple(result.shape)}")
    picked = slice(1, None, max(1, len(x) // 16))
    want = product(x[picked], y)
    found = judge(result[picked].contiguous(), want, x.device)
    if found.fault:
        return found
    n = y.shape[1]
    signs = np.where(np.random.default_rng(2147).integers(0, 2, n), 1.0, -1.0)
    wanted = double(x) @ (double(y) @ signs)
    differences = np.abs(double(result) @ signs - wanted)
    if not x.dtype.is_floating_point:
        differences %= 2.0 ** (8 * x.element_size())
    typical = np.sqrt(np.mean(np.square(np.asarray(want.bound) / 4)))
    off = float(np.max(differences))
    allowed = float(8 * math.sqrt(n) * typical)
    return replace(found, fault="" if off <= allowed else f"a row's checksum is off by {off:.2g}")
