"""Check whether the data of a cell became infinite, NaN or denormal during its rounds.

A call may work on its own results, up to millions of times. A benchmark is not meant to time
infinite data or NaN, and a CPU may take 40 times as long for denormals.
"""

import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure.arrays import computable

#: Elements of a tensor that are examined, at even distances: so few that PyTorch uses one thread.
EXAMINED = 32_768
#: From this share of denormal elements on, they are reported.
DENORMAL_SHARE = 0.01
#: Packages whose objects hold no data of a benchmark in their attributes.
_OPAQUE = {*sys.stdlib_module_names, "bench", "numpy", "pytest", "_pytest", "torch", "torchvision"}
#: Levels of nested containers and closures that are searched.
_DEPTH = 6


@dataclass(frozen=True)
class Health:
    """Shares of the floating-point elements that are not finite, and that are denormal."""

    not_finite: float = 0.0
    denormal: float = 0.0


def _tensors(value: Any, seen: set[int], depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield the tensors that a call can reach by arguments, closures, globals and attributes."""
    if id(value) in seen or depth > _DEPTH:
        return
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, torch.Tensor):
        yield value
        inner = [value.grad] if value.is_leaf and value.grad is not None else []
    elif isinstance(value, torch.nn.Module):
        inner = [*value.parameters(), *value.buffers()]
    elif isinstance(value, torch.optim.Optimizer):
        inner = [*value.state.values(), *(group["params"] for group in value.param_groups)]
    elif isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        inner = list(value)
    elif isinstance(value, types.FunctionType):
        inner = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        inner += [value.__globals__.get(name) for name in value.__code__.co_names]
    elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        inner = [value.__self__]
    elif hasattr(value, "func") and hasattr(value, "args"):  # functools.partial
        inner = [value.func, value.args, getattr(value, "keywords", None)]
    elif type(value).__module__.partition(".")[0] not in _OPAQUE:
        inner = list(getattr(value, "__dict__", {}).values())
    for one in inner:
        yield from _tensors(one, seen, depth + 1)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # the variable is not assigned yet
        return False


@torch.no_grad()
def health(*reached: object) -> Health:
    """Examine the floating-point tensors in `reached`, on their own device."""
    elements = not_finite = denormal = 0
    for tensor in _tensors(reached, set()):
        if not tensor.dtype.is_floating_point or not computable(tensor):
            continue
        flat = tensor.detach().reshape(-1)
        part = flat[:: -(-flat.numel() // EXAMINED) or 1]
        elements += part.numel()
        not_finite += int((~part.isfinite()).sum())
        denormal += int(((part != 0) & (part.abs() < torch.finfo(part.dtype).tiny)).sum())
    return Health(not_finite / elements, denormal / elements) if elements else Health()


def fault(before: Health, after: Health) -> str:
    """Return in one line why the times of the rounds are meaningless, or an empty string."""
    if after.not_finite <= before.not_finite:
        return ""
    return (
        f"{after.not_finite:.0%} of its data became infinite or NaN during the rounds: "
        "change the call so that its data stays in range, or work out of place"
    )


def became_denormal(before: Health, after: Health) -> float | None:
    """Return the share of elements that are denormal now; None if hardly more than before."""
    return after.denormal if after.denormal > before.denormal + DENORMAL_SHARE else None
