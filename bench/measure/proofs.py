"""Check a result besides its values: fresh memory, a view, the same object, the same bits."""

from typing import Any

import numpy as np
import torch

from bench.measure.answer import BLOCK, WrongAnswer
from bench.measure.arguments import CPU, leaves, tensors
from bench.measure.arrays import Array, stored

#: Larger memory is not reused by the next call on the CPU.
SPOILED_BYTES = 2**25


def _memory(value: Any) -> tuple[Any, int, int]:
    """Return the device, the first and the last address of a tensor's or array's numbers."""
    if isinstance(value, torch.Tensor):
        device, start = value.device, value.data_ptr()
        strides = [n * value.itemsize for n in value.stride()]
    else:
        device, start, strides = CPU, value.ctypes.data, value.strides
    if 0 in value.shape:
        return device, start, start
    reaches = [(n - 1) * stride for n, stride in zip(value.shape, strides, strict=True)]
    first = start + sum(reach for reach in reaches if reach < 0)
    return device, first, start + sum(reach for reach in reaches if reach > 0) + value.itemsize


def _arrays(value: Any) -> list[Any]:
    """Return the arrays and tensors whose numbers are in one piece of memory: no sparse ones."""
    arrays = [leaf for leaf in leaves(value) if isinstance(leaf, np.ndarray)]
    return arrays + [one for one in tensors(value) if one.layout == torch.strided]


def overlap(result: Any, others: Any) -> bool:
    """Return whether an array of the result shares memory with one of the others."""
    both = [_arrays(one) for one in (result, others)]  # kept, so that no other gets their memory
    spans = sorted(
        (str(place), start, end, side)
        for side, arrays in enumerate(both)
        for place, start, end in map(_memory, arrays)
    )
    ends = [("", 0), ("", 0)]
    for device, start, end, side in spans:
        if end > start and ends[1 - side] > (device, start):
            return True
        ends[side] = max(ends[side], (device, end))
    return False


def spoil(result: Any) -> None:
    """Fill memory of the size of a result with large numbers, and free it.

    The next call probably gets this memory, so that it shows if it leaves its result unwritten.
    """
    given = (x for x in tensors(result) if x.layout == torch.strided and not x.is_quantized)
    for one in [torch.empty_like(x) for x in given if x.nbytes <= SPOILED_BYTES]:
        one.fill_(77)


def fresh(result: Any, *args: Any, **_: Any) -> None:
    """Prove that the result shares no memory with an argument."""
    if overlap(result, list(args)):
        raise WrongAnswer("the result shares memory with an argument, instead of a copy")


def aliases(result: Any, source: Any, *_: Any, **__: Any) -> None:
    """Prove that the result is a view of the first argument: it starts at the same address."""
    if _memory(result)[:2] != _memory(source)[:2]:
        raise WrongAnswer("the result does not share the memory of its argument")


def wrote(result: Any, target: Any, *_: Any, **__: Any) -> None:
    """Prove that the call returned its first argument; its values are checked in any case."""
    if result is not target:
        raise WrongAnswer("a call in place did not return its first argument")


def _equal_bits(one: Array, other: Array) -> bool:
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (one, other)]
    width = flat[0].itemsize
    first, second = (array.view(f"u{width}" if width in (1, 2, 4, 8) else "u1") for array in flat)
    parts = (slice(start, start + BLOCK) for start in range(0, first.size, BLOCK))
    return all(np.array_equal(first[part], second[part]) for part in parts)


def same_bits(one: Any, other: Any) -> bool:
    """Return whether two values have the same numbers of the same types, NaN included."""
    left, right = leaves(one), leaves(other)
    if len(left) != len(right):
        return False
    for first, second in zip(left, right, strict=True):
        if isinstance(first, (torch.Tensor, np.ndarray)):
            both = type(first) is type(second) and first.dtype == second.dtype
            if not both or first.shape != second.shape:
                return False
            if isinstance(first, torch.Tensor):
                if first.device.type == "meta" or second.device.type == "meta":
                    return False
                first, second = stored(first), stored(second)
            if not _equal_bits(first, second):
                return False
        elif isinstance(first, (bool, int, float)) and first != second and first == first:
            return False
    return True
