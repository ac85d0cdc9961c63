"""Changes of the result of a call: its values, its dtype, device, strides and memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.measure.arguments import walk

#: Where the broken element is, as a share of the elements of the largest array.
PLACE = 0.37


class NotApplied(Exception):
    """The break changes nothing in this cell, so the cell has nothing to notice."""


def _set(flat: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    flat.copy_(change(flat.double() if flat.is_floating_point() else flat).to(flat.dtype))


def _element(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., None]:
    def breaks(leaves: list[torch.Tensor]) -> None:
        largest = max(leaves, key=torch.Tensor.numel)
        place = np.unravel_index(int(PLACE * largest.numel()), largest.shape)
        _set(largest[tuple(map(int, place))], change)

    return breaks


def _all(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., None]:
    def breaks(leaves: list[torch.Tensor]) -> None:
        for leaf in leaves:
            _set(leaf, change)

    return breaks


def _row(leaves: list[torch.Tensor]) -> None:
    largest = max(leaves, key=torch.Tensor.numel)
    if largest.ndim and largest.shape[0] > 1:
        largest[int(PLACE * largest.shape[0])] = 0
    else:
        largest.zero_()


def _reversed(leaves: list[torch.Tensor]) -> None:
    for leaf in leaves:
        leaf.copy_(leaf.flip(0) if leaf.ndim else leaf)


def _nan(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotApplied
    return x * float("nan")


def _next(x: torch.Tensor) -> torch.Tensor:
    """Return the next integer, or the other bool."""
    if x.is_floating_point():
        raise NotApplied
    return ~x if x.dtype == torch.bool else x + 1


def _by_1e_12(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + 1e-12)


def _swap_rows(leaves: list[torch.Tensor]) -> None:
    largest = max(leaves, key=torch.Tensor.numel)
    if not largest.ndim or largest.shape[0] < 2:
        raise NotApplied
    largest[:2] = largest[:2].flip(0)


def _flip_channel(leaves: list[torch.Tensor]) -> None:
    for image in leaves:
        if image.ndim in (3, 4) and image.shape[-3] == 3:
            image[..., 1, :, :] = image[..., 1, :, :].flip(-1)
            return
    raise NotApplied


#: Name -> changes of the values in a result: one element of the largest array, or all of them.
VALUES: dict[str, Callable[[list[torch.Tensor]], None]] = {
    "one element 1 %": _element(lambda x: x * 1.01),
    "one element 10 %": _element(lambda x: x * 1.1),
    "zero": _element(torch.zeros_like),
    "sign": _element(lambda x: ~x if x.dtype == torch.bool else -x),
    "NaN": _element(_nan),
    "row": _row,
    "off by one": _element(_next),
    "two rows swapped": _swap_rows,
    "one channel flipped": _flip_channel,
    "float64 by 1e-12": _all(_by_1e_12),
    "all 1 %": _all(lambda x: x * 1.01),
    "all 10 %": _all(lambda x: x * 1.1),
    "all zero": _all(torch.zeros_like),
    "reversed": _reversed,
}

OTHER = {"float32": torch.float64, "float64": torch.float32, "int64": torch.int32}


def leaves_of(result: Any) -> list[Any]:
    found: list[Any] = []

    def add(leaf: Any) -> None:
        if isinstance(leaf, torch.nn.Module):
            found.extend(leaf.parameters())
        elif isinstance(leaf, (torch.Tensor, np.ndarray)):
            found.append(leaf)

    walk(result, add)
    return found


def _numbers(result: Any) -> Any:
    """Return a result of Python numbers as a tensor, and None if it has none."""
    if type(result) in (bool, int, float):
        return torch.tensor(result, dtype={float: torch.float64}.get(type(result)))
    if isinstance(result, list) and result and type(result[0]) in (bool, int, float):
        return torch.tensor(result, dtype={float: torch.float64}.get(type(result[0])))
    return None


def change_values(result: Any, breaks: Callable[[list[torch.Tensor]], None]) -> Any:
    """Return the result with changed values: in its memory, or as new Python numbers."""
    numbers = _numbers(result)
    if numbers is not None:
        before = numbers.clone()
        breaks([numbers.reshape(-1)])
        if torch.equal(before, numbers):
            raise NotApplied
        return numbers.tolist()
    leaves = leaves_of(result)
    views = []
    for leaf in leaves:
        view = leaf.detach() if isinstance(leaf, torch.Tensor) else torch.from_numpy(leaf)
        if view.numel():
            views.append(view)
    if not views:
        raise NotApplied
    with torch.inference_mode(any(view.is_inference() for view in views)):
        before = [view.clone() for view in views]
        breaks(views)
        if all(map(torch.equal, before, views)):
            raise NotApplied
    return result


def _map_tensors(result: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    changed = []

    def applied(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        changed.append(leaf)
        return change(leaf)

    mapped = walk(result, applied)
    if not changed:
        raise NotApplied
    return mapped


def wrong_dtype(result: Any) -> Any:
    """Return the same values in another dtype."""
    return _map_tensors(
        result, lambda x: x.to(OTHER.get(str(x.dtype).removeprefix("torch."), torch.float32))
    )


def wrong_strides(result: Any) -> Any:
    """Return the same values with the strides of channels_last, or of a transposed matrix."""

    def change(x: torch.Tensor) -> torch.Tensor:
        if x.ndim < 2 or 1 in x.shape[-2:]:
            return x
        moved = x.movedim(1, -1) if x.ndim == 4 else x.mT
        moved = moved.contiguous()
        return moved.movedim(-1, 1) if x.ndim == 4 else moved.mT

    def facts(x: Any) -> list[Any]:
        return [one.stride() for one in leaves_of(x) if isinstance(one, torch.Tensor)]

    changed = _map_tensors(result, change)
    if facts(changed) == facts(result):
        raise NotApplied
    return changed


def wrong_device(result: Any) -> Any:
    """Return a result on another device."""
    return _map_tensors(result, lambda x: x.to("meta"))


def _storage(x: Any) -> int:
    return int(x.untyped_storage().data_ptr())


def wrong_alias(result: Any, args: tuple[Any, ...]) -> Any:
    """Return the result in memory that it must not have: its input's, or a copy's."""
    tensors = [leaf for leaf in leaves_of(list(args)) if isinstance(leaf, torch.Tensor)]
    if not isinstance(result, torch.Tensor) or not tensors:
        raise NotApplied
    if any(_storage(one) == _storage(result) for one in tensors):
        return result.clone()
    for one in tensors:
        if one.shape == result.shape and one.dtype == result.dtype and not one.requires_grad:
            return one.copy_(result.detach())
    raise NotApplied
