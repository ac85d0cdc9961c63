"""The arguments of a call: their leaves, copies of them, and the same call in float64."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

CPU = torch.device("cpu")


def walk(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return `value` with `change` applied to every leaf of its lists, tuples and dicts."""
    if isinstance(value, Mapping):
        return {key: walk(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [walk(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return change(value)


def copies(arguments: Any) -> Any:
    """Return a copy of arguments that a call may change.

    The copy keeps strides, shared memory, and the connection of an optimizer with its module. It
    also keeps pinned memory, and the gradients of parameters, which `copy.deepcopy` drops, and
    sparse tensors, some of which it refuses.
    """
    known: dict[int, Any] = {}
    pins = torch.accelerator.is_available()

    def special(leaf: Any) -> None:
        if not isinstance(leaf, torch.Tensor):
            return
        if leaf.layout != torch.strided:
            known[id(leaf)] = leaf.detach().clone().requires_grad_(leaf.requires_grad)
        elif pins and leaf.device == CPU and leaf.is_pinned():
            known[id(leaf)] = leaf.clone().pin_memory()

    walk(arguments, special)
    copied = copy.deepcopy(arguments, known)

    def with_gradients(leaf: Any) -> None:
        for parameter in leaf.parameters() if isinstance(leaf, torch.nn.Module) else ():
            if parameter.grad is not None:
                known[id(parameter)].grad = parameter.grad.detach().clone()

    walk(arguments, with_gradients)
    return copied


def _widest(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype


def _upcast(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        moved = leaf.detach().to(CPU)
        return moved.to(_widest(moved.dtype), copy=True).requires_grad_(leaf.requires_grad)
    if isinstance(leaf, torch.nn.Module):
        return leaf.to(CPU).to(torch.float64)  # a device may lack float64
    if isinstance(leaf, torch.dtype):
        return _widest(leaf)
    if isinstance(leaf, torch.device):
        return CPU
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fc":
        return leaf.astype(np.float64 if leaf.dtype.kind == "f" else np.complex128)
    return leaf


def on_reference(arguments: Any) -> Any:
    """Return a copy of arguments on the CPU, with floating-point values in float64."""
    found: list[Any] = []
    walk(arguments, found.append)
    tied = any(isinstance(leaf, (torch.nn.Module, torch.optim.Optimizer)) for leaf in found)
    return walk(copies(arguments) if tied else arguments, _upcast)


def reference(operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of `operation` on the CPU in float64."""
    expected_args, expected_kwargs = on_reference((args, kwargs))
    return operation(*expected_args, **expected_kwargs)


def leaves(value: Any) -> list[Any]:
    """Return the leaves of `value` in order; a list of plain numbers is one leaf, an array."""
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, torch.nn.Module) and (parameters := list(value.parameters())):
        return list(parameters)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, (bool, int, float)) for item in value):
            return [np.asarray(value, dtype=np.float64)]
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors among the leaves of `value`."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor)]
