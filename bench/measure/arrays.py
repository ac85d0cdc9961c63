"""Tensors and arrays as exact numbers, and the rounding of each dtype."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
#: Returns the exact numbers in a part of a flattened array.
Pieces = Callable[[slice], Array]


@dataclass(frozen=True)
class Blocks:
    """The values of a large array, which are computed a part at a time and stay in the cache."""

    shape: tuple[int, ...]
    piece: Pieces


def unit(dtype: torch.dtype) -> float:
    """Return u, the largest relative error of one rounding in `dtype`."""
    return torch.finfo(dtype).eps / 2


def accumulator(dtype: torch.dtype) -> float:
    """Return u of the sums of an operation in `dtype`: float32 for the 16-bit types."""
    return 2.0**-53 if dtype == torch.float64 else 2.0**-24


def ulp(values: Array, dtype: torch.dtype) -> Array:
    """Return the distance between the numbers of `dtype` around each value, as float64."""
    info = torch.finfo(dtype)
    bits = np.asarray(values, np.float64, order="C").view(np.uint64) & np.uint64(0x7FF << 52)
    return np.maximum(bits.view(np.float64), info.smallest_normal) * info.eps


def ulps(count: float, dtype: torch.dtype) -> Callable[[Array], Array]:
    """Return the bound of `count` units in the last place of the exact value."""
    return lambda values: count * ulp(values, dtype)


def computable(tensor: torch.Tensor) -> bool:
    """Return whether the usual operators take a tensor: it is neither sparse nor of a float8."""
    float8 = tensor.is_floating_point() and tensor.itemsize == 1
    return tensor.layout == torch.strided and not float8


def stored(tensor: torch.Tensor) -> Array:
    """Return a tensor's numbers for NumPy: bfloat16 as its bits in uint16, float8 as float32."""
    host = tensor.detach().cpu()
    host = host if host.layout == torch.strided else host.to_dense()
    if host.dtype == torch.bfloat16:
        return host.contiguous().view(torch.int16).numpy().view(np.uint16)
    return (host if computable(host) else host.float()).numpy()


def widened(array: Array, dtype: torch.dtype) -> Array:
    """Return stored numbers of `dtype` as numbers: bfloat16 as float32, others as they are."""
    if dtype == torch.bfloat16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array


def pieces(value: Any) -> Pieces:
    """Return the exact numbers of a tensor, an array or `Blocks`, a part at a time.

    A single number stands for those of every part.
    """
    if isinstance(value, Blocks):
        return value.piece
    if isinstance(value, torch.Tensor):
        raw, dtype = stored(value).reshape(-1), value.dtype
        return lambda part: widened(raw[part], dtype)
    flat = np.asarray(value).reshape(-1)
    return lambda part: flat if flat.size == 1 else flat[part]


def each(function: Callable[..., Array], *operands: Any) -> Blocks:
    """Return `function` of the exact numbers of operands, element by element."""
    shape = tuple(operands[0].shape)
    if any(tuple(one.shape) != shape for one in operands):
        operands = tuple(np.broadcast_arrays(*map(numbers, operands)))
        shape = operands[0].shape
    parts = [pieces(one) for one in operands]
    return Blocks(shape, lambda part: function(*(piece(part) for piece in parts)))


def numbers(value: Any) -> Array:
    """Return the exact numbers of a tensor, an array, a list or a number."""
    if isinstance(value, torch.Tensor):
        return widened(stored(value), value.dtype)
    return np.asarray(value)


def wide(value: Any) -> Array:
    """Return exact numbers in a type with more digits: longdouble for float64, int64, float64."""
    found = numbers(value)
    if found.dtype.kind == "f":
        return found.astype(np.longdouble if found.dtype == np.float64 else np.float64)
    return found.astype(np.int64) if found.dtype.kind in "iu" else found


def double(value: Any) -> Array:
    """Return exact numbers as float64."""
    return numbers(value).astype(np.float64)


def dtype_of(value: Any) -> torch.dtype:
    """Return the dtype of a tensor, or that of the tensor which an array becomes."""
    if isinstance(value, torch.Tensor):
        return value.dtype
    return torch.from_numpy(np.zeros(0, np.asarray(value).dtype)).dtype
