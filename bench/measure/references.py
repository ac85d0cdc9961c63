"""What a call must return, computed by NumPy, and how far rounding may take each element from it.

A benchmark declares the class of its operation: ``cell(torch.matmul, x, y, expect=product)``. The
class is a function of the same arguments that returns a `Reference` (or a list, tuple or dict of
them, like the result). It works on copies on the CPU and never asks a device for float64. A new
class needs the exact values, and as `bound` the largest deviation of each element.

In the formulas, u is half the epsilon of the dtype, r the exact result, and T the root of the sum
of the squared terms of an element. Rounding errors behave like independent random variables with
mean zero, so the error of a sum of n terms in any order stays, with a probability of one minus
2 exp(-k**2 / 2), below k sqrt(n) u times its largest partial sum (Higham and Mary, "A new approach
to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019; for sums, Hallman and
Ipsen, "Precision-aware deterministic and probabilistic error bounds", Numer. Math. 155, 2023). The
partial sums of random terms are about abs(r) + T. The k here is 4 and more.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.measure import precision
from bench.measure.arrays import (
    Array,
    Blocks,
    accumulator,
    double,
    dtype_of,
    each,
    numbers,
    pieces,
    ulp,
    ulps,
    unit,
    wide,
)

#: An error, or one per element, or what returns it from the exact values of some elements.
Bound = float | Array | Blocks | Callable[[Array], Array]


@dataclass(frozen=True)
class Reference:
    """One array that a call must return.

    `values` are exact, or exact enough for `bound`, the largest deviation allowed. `scale` is the
    largest error of the factor by which the whole result is too large, besides what independent
    errors within `bound` make of it; `norm` that of its Euclidean norm, relative to the norm of the
    values. With an `origin`, the scale is that of the change from it. `kind` is the type of the
    result: a tensor, a NumPy array, a list of Python numbers, or one (float). `device` None is the
    cell's device. A tensor that must be `contiguous` may have these `strides` instead. The row gets
    the `note`.
    """

    values: torch.Tensor | Array | Blocks
    dtype: torch.dtype
    bound: Bound = 0.0
    scale: float = math.inf
    norm: float = math.inf
    origin: Array | None = None
    kind: type = torch.Tensor
    device: torch.device | None = None
    requires_grad: bool = False
    contiguous: bool = True
    strides: tuple[int, ...] = ()
    note: str = ""


def rounded(values: torch.Tensor | Array | Blocks, dtype: torch.dtype) -> Reference:
    """Return the reference of numbers that are rounded once to `dtype`: half an ulp.

    Floating-point numbers become integers without their fraction, integers modulo 2**bits.
    """

    def kept(exact: Array) -> Array:
        if dtype == torch.bool:
            return np.not_equal(exact, 0)
        if not dtype.is_floating_point:
            return exact.astype(np.int64).astype(torch.empty(0, dtype=dtype).numpy().dtype)
        return exact.astype(np.float64) if exact.dtype.kind in "iub" else exact

    bound = ulps(0.5, dtype) if dtype.is_floating_point else 0.0
    return Reference(each(kept, values), dtype, bound)


# Exact: the bits of the reference, rounded once.


def same(x: Any, *_: Any, **__: Any) -> Reference:
    """Return the values of the first argument: copies, views, the bridge with NumPy."""
    return Reference(x, dtype_of(x))


def converted(x: Any, *given: Any, dtype: torch.dtype | None = None, **__: Any) -> Reference:
    """Return the values of the first argument in the dtype among the others."""
    dtypes = [one for one in given if isinstance(one, torch.dtype)]
    values = np.asarray(x) if isinstance(x, list) else x
    return rounded(values, dtype or (dtypes[0] if dtypes else dtype_of(x)))


def second(_: Any, y: Any, *__: Any, **___: Any) -> Reference:
    """Return the values of the second argument: ``x.copy_(y)``."""
    return same(y)


def on_host(host: torch.Tensor, source: torch.Tensor, **_: Any) -> Reference:
    """Return the values of the second argument in a tensor of the host."""
    return Reference(source, host.dtype, device=host.device)


def flattened(x: torch.Tensor, *_: Any) -> Reference:
    """Return every sample as one row."""
    return Reference(numbers(x).reshape(len(x), -1), x.dtype)


def listed(x: torch.Tensor) -> Reference:
    """Return the values as Python numbers: a list, or one number of a tensor with one element."""
    return Reference(numbers(x), x.dtype, kind=list)


def item(x: torch.Tensor) -> Reference:
    """Return the only value as a Python number."""
    return Reference(numbers(x).reshape(()), x.dtype, kind=float)


def as_array(x: torch.Tensor) -> Reference:
    """Return the values as a NumPy array."""
    return Reference(numbers(x), x.dtype, kind=np.ndarray)


def joined(parts: list[torch.Tensor], dim: int = 0) -> Reference:
    """Return tensors one after the other along `dim`: cat."""
    return Reference(np.concatenate([numbers(one) for one in parts], dim), parts[0].dtype)


def stacked(parts: list[torch.Tensor], dim: int = 0) -> Reference:
    """Return tensors along a new dimension: stack, collate."""
    return Reference(np.stack([numbers(one) for one in parts], dim), parts[0].dtype)


def constant(value: float) -> Callable[..., Reference]:
    """Return the reference of a factory: every element is `value`."""

    def expect(size: Any, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Reference:
        like = isinstance(size, torch.Tensor)
        shape = tuple(size.shape) if like else tuple(map(int, np.atleast_1d(size)))
        values = Blocks(shape, pieces(np.broadcast_to(value, math.prod(shape))))
        return rounded(values, dtype or (size.dtype if like else torch.get_default_dtype()))

    return expect


def relu(x: torch.Tensor) -> Reference:
    """Return the larger of each value and zero."""
    return Reference(each(lambda values: np.maximum(values, 0), x), x.dtype)


# One rounding, and library functions.


def added(x: torch.Tensor, y: torch.Tensor) -> Reference:
    """Return x + y, rounded once; integers modulo 2**bits."""
    return rounded(each(lambda a, b: wide(a) + wide(b), x, y), x.dtype)


def multiplied(x: torch.Tensor, y: torch.Tensor) -> Reference:
    """Return x * y, rounded once; integers modulo 2**bits."""
    return rounded(each(lambda a, b: wide(a) * wide(b), x, y), x.dtype)


def spaced(
    start: float, end: float, step: float, *, dtype: torch.dtype | None = None, **_: Any
) -> Reference:
    """Return arange: one ulp, for the product and the sum."""
    dtype = dtype or torch.get_default_dtype()
    count = math.ceil((end - start) / step)
    return Reference(start + np.longdouble(step) * np.arange(count), dtype, ulps(1, dtype))


def scale(dtype: torch.dtype) -> float:
    """Return u, the largest error of the scale of a result of independent roundings.

    None is set for float64, in which the scale itself is computed.
    """
    return math.inf if dtype == torch.float64 else unit(dtype)


def logistic_error(exact: Array, dtype: torch.dtype) -> Array:
    """Return the bound of 1 / (1 + exp(-x)): 2 ulp, and those of the exponential and the sum."""
    inner = torch.float32 if dtype.itemsize == 2 else dtype
    total = 1 / exact
    error = ulp(total - 1, inner) + ulp(total, inner)
    bound: Array = 2 * ulp(exact, dtype) + np.square(exact, dtype=np.float64) * error
    return bound


def sigmoid(x: torch.Tensor) -> Reference:
    """Return the logistic function."""
    exact = each(lambda values: 1 / (1 + np.exp(-wide(values))), x)
    bound = functools.partial(logistic_error, dtype=x.dtype)
    return Reference(exact, x.dtype, bound, scale(x.dtype))


def chain(x: torch.Tensor, y: torch.Tensor) -> Reference:
    """Return sigmoid(x * y + x) * y, with the roundings of each step carried to the end."""

    def steps(x_part: Array, y_part: Array) -> tuple[Array, Array]:
        a, b = wide(x_part), wide(y_part)
        product = a * b
        inner = product + a
        exp = 1 / (1 + np.exp(-inner))
        error = (ulp(product, x.dtype) + ulp(inner, x.dtype)) / 2 * (exp * (1 - exp))
        error = (error + logistic_error(exp, x.dtype)) * np.abs(b) + ulp(exp * b, x.dtype)
        return exp * b, 1.01 * error

    exact = each(lambda *parts: steps(*parts)[0], x, y)
    bound = each(lambda *parts: steps(*parts)[1], x, y)
    return Reference(exact, x.dtype, bound, scale(x.dtype))


def softmax(x: torch.Tensor, dim: int = 1) -> Reference:
    """Return softmax along `dim`: 2 ulp, and a sum of n terms and two functions in float32."""
    values = wide(x)
    exps = np.exp(values - values.max(dim, keepdims=True))
    exact = exps / exps.sum(dim, keepdims=True)
    inner = (8 + math.sqrt(x.shape[dim])) * 2 * accumulator(x.dtype)
    bound = 2 * ulp(exact, x.dtype) + inner * exact
    return Reference(exact, x.dtype, bound, scale(x.dtype))


# Sums.


def sixteen_bit(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a device may round partial sums to a 16-bit dtype.

    CUDA declares it by flags that are on by default; nothing is known of MPS.
    """
    flags = torch.backends.cuda.matmul
    reduced: dict[torch.dtype, Any] = {
        torch.float16: flags.allow_fp16_reduced_precision_reduction,
        torch.bfloat16: flags.allow_bf16_reduced_precision_reduction,
    }
    if dtype not in reduced or device.type == "cpu":
        return False
    return device.type != "cuda" or bool(reduced[dtype])


def allowed(dtype: torch.dtype, device: torch.device) -> str:
    """Return the note of a row whose bound allows 16-bit partial sums, or an empty text."""
    return "16-bit partial sums are allowed here" if sixteen_bit(dtype, device) else ""


def sum_error(exact: Array, root: Array, terms: int, of: torch.Tensor) -> Array:
    """Return the bound of sums of `terms` terms: 1 ulp + 4 sqrt(n) 2**-24 (abs(r) + T).

    Sums of float64 have two such errors, because the reference is computed in float64 too. Where
    the device may round partial sums of 16 terms to a 16-bit dtype, 4 sqrt(n / 16) u (abs(r) + T)
    is added.
    """
    both = 2 if of.dtype == torch.float64 else 1
    factor = both * 4 * math.sqrt(terms) * accumulator(of.dtype)
    if sixteen_bit(of.dtype, of.device):
        factor += 4 * math.sqrt(terms / 16) * unit(of.dtype)
    return ulp(exact, of.dtype) + factor * (np.abs(exact) + root)


def product(x: torch.Tensor, y: torch.Tensor) -> Reference:
    """Return the matrix product; that of small integers is exact in float64, and fast.

    TF32 cuts each factor to 11 bits: 4 * 2**-10 (abs(r) + T).
    """
    a, b = double(x), double(y)
    exact = a @ b
    if not x.dtype.is_floating_point:
        exactly = np.abs(a).max() * np.abs(b).max() * a.shape[-1] < 2.0**53
        return rounded(np.rint(exact) if exactly else wide(x) @ wide(y), x.dtype)
    root = np.sqrt((a * a).astype(np.float32) @ (b * b).astype(np.float32))
    bound = sum_error(exact, root, a.shape[-1], x)
    if x.dtype == torch.float32 and x.device.type == "cuda" and precision.uses_tf32():
        return Reference(exact, x.dtype, bound + 4 * 2.0**-10 * (np.abs(exact) + root))
    note = allowed(x.dtype, x.device)
    return Reference(exact, x.dtype, bound, scale(x.dtype), note=note)


def summed(x: torch.Tensor, dim: int) -> Reference:
    """Return the sum along `dim`; integers are added up in int64."""
    if not x.dtype.is_floating_point:
        return Reference(numbers(x).sum(dim, dtype=np.int64), torch.int64)
    values = wide(x)
    exact = values.sum(dim)
    bound = sum_error(exact, np.sqrt((values * values).sum(dim)), x.shape[dim], x)
    note = allowed(x.dtype, x.device)
    return Reference(exact, x.dtype, bound, scale(x.dtype), note=note)


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Reference:
    """Return x @ weight.T + bias: a product, its rounding before the bias is added, and the sum."""
    of = product(x, weight.detach().t())
    assert isinstance(of.values, np.ndarray)
    assert isinstance(of.bound, np.ndarray)
    exact = of.values + double(bias)
    bound = of.bound + ulp(exact, x.dtype)
    grad = weight.requires_grad or x.requires_grad
    return Reference(exact, x.dtype, bound, of.scale, requires_grad=grad, note=of.note)


def linear(layer: torch.nn.Linear, x: torch.Tensor) -> Reference:
    """Return the result of a linear layer."""
    return affine(x, layer.weight, layer.bias)


def cascade(terms: int, dtype: torch.dtype) -> float:
    """Return the relative standard deviation of a sum of like terms in a 16-bit dtype, else 0.

    PyTorch adds up losses in their dtype, in blocks of 16, and the blocks again. A rounding has a
    standard deviation of 0.42 u of its partial sum on average, whose mean square in a block is a
    third of that of the block.
    """
    squares, width = 0.0, 1
    while width < terms:
        squares += terms / width * (min(16 * width, terms) / terms) ** 2 / 3
        width *= 16
    return 0.42 * unit(dtype) * math.sqrt(squares) if dtype.itemsize == 2 else 0.0


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> Reference:
    """Return the mean cross entropy; `target` holds classes, or a probability for each.

    Each logarithm is rounded (2 ulp), then their mean: 6 standard deviations of these roundings
    and, in 16 bits, of the sum, see `cascade`.
    """
    values = wide(logits)
    shifted = values - values.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    if target.dtype.is_floating_point:
        each = -(logs * wide(target)).sum(1)
    else:
        each = -np.take_along_axis(logs, numbers(target)[:, None], 1)[:, 0]
    exact, count = each.mean(), len(each)
    logarithms = np.square(ulp(each, logits.dtype)).sum() / 3 / count**2
    rounding = np.square(ulp(np.asarray(exact), logits.dtype)) / 12
    added = np.square(cascade(count, logits.dtype) * exact)
    # The maximum may be added to the logarithm of the sum.
    inner = accumulator(logits.dtype) * (16 * np.abs(each).max() + 2 * np.abs(values).max())
    bound = 6 * np.sqrt(logarithms + rounding + added) + inner
    grad = logits.requires_grad
    return Reference(np.asarray(exact), logits.dtype, bound, requires_grad=grad)
