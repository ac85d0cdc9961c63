"""Check an answer against the same computation on the CPU in float64."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.measure import dtypes

CPU = torch.device("cpu")


class WrongAnswer(Exception):
    """An answer is wrong; the message is one line with what was seen."""


class NoReference(Exception):
    """The float64 computation on the CPU failed, so the answer cannot be judged."""


@dataclass(frozen=True)
class Answer:
    """The relative error of an answer, and the largest one allowed.

    Both are None if the operation promises no values (`empty`). `fault` is what is wrong in one
    line, or empty.
    """

    rel_error: float | None = None
    tolerance: float | None = None
    fault: str = ""


def walk(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return `value` with `change` applied to every leaf of its lists, tuples and dicts."""
    if isinstance(value, Mapping):
        return {key: walk(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [walk(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return change(value)


def fresh(arguments: Any) -> Any:
    """Return a copy of arguments that a call may change.

    The copy keeps strides, shared memory, and the connection of an optimizer with its module. It
    also keeps the gradients of parameters, which `copy.deepcopy` drops.
    """
    known: dict[int, Any] = {}
    copied = copy.deepcopy(arguments, known)

    def with_gradients(leaf: Any) -> None:
        for parameter in leaf.parameters() if isinstance(leaf, torch.nn.Module) else ():
            if parameter.grad is not None:
                known[id(parameter)].grad = parameter.grad.detach().clone()

    walk(arguments, with_gradients)
    return copied


def _upcast(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        moved = leaf.detach().to(CPU)
        wide = torch.float64 if moved.is_floating_point() else moved.dtype
        return moved.to(wide, copy=True).requires_grad_(leaf.requires_grad)
    if isinstance(leaf, torch.nn.Module):
        return leaf.to(CPU, torch.float64)
    if isinstance(leaf, torch.dtype):
        return torch.float64 if leaf.is_floating_point else leaf
    if isinstance(leaf, torch.device):
        return CPU
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
        return leaf.astype(np.float64)
    return leaf


def on_reference(arguments: Any) -> Any:
    """Return a copy of arguments on the CPU, with floating-point values in float64."""
    leaves: list[Any] = []
    walk(arguments, leaves.append)
    tied = any(isinstance(leaf, (torch.nn.Module, torch.optim.Optimizer)) for leaf in leaves)
    return walk(fresh(arguments) if tied else arguments, _upcast)


def reference(operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of `operation` on the CPU in float64.

    Raises NoReference if the CPU cannot compute it, which does not mean that the device refused.
    """
    expected_args, expected_kwargs = on_reference((args, kwargs))
    try:
        return operation(*expected_args, **expected_kwargs)
    except (NotImplementedError, TypeError) as problem:
        raise NoReference(f"no reference: {problem}; pass the cell a `check`") from problem


def _leaves(value: Any) -> list[Any]:
    """Return the leaves of `value` in order; a list of plain numbers is one leaf, an array."""
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, torch.nn.Module) and (parameters := list(value.parameters())):
        return list(parameters)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, (bool, int, float)) for item in value):
            return [np.asarray(value, dtype=np.float64)]
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _as_float64(leaf: Any) -> torch.Tensor | None:
    """Return the leaf's values on the CPU in float64 (integers beyond 2**53 are not used here)."""
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().to(CPU).to(torch.float64)
    if isinstance(leaf, (np.ndarray, np.generic, bool, int, float)):
        return torch.tensor(np.asarray(leaf, dtype=np.float64))
    return None


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return np.array_equal(one.numpy(), other.numpy(), equal_nan=True)


def _leaf_error(actual: torch.Tensor, expected: torch.Tensor, norm: float) -> float:
    """Return the norm of the deviation divided by the norm of the reference.

    An error per element would be misleading: an element that cancels to nearly zero carries the
    rounding of its summands (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
    section 1.2).
    """
    if actual.numel() == 0:
        return 0.0
    difference = torch.dist(actual, expected, p=norm).item()
    scale = torch.linalg.vector_norm(expected, ord=norm).item()
    if not math.isfinite(difference):  # NaN or infinity on either side: they must be the same
        return 0.0 if _same(actual, expected) else math.inf
    return difference / scale if scale > 0 else (0.0 if difference == 0 else math.inf)


def compare(
    actual: Any, expected: Any, dtype: torch.dtype, terms: int = 1, norm: float = math.inf
) -> Answer:
    """Compare each number and array in lists, tuples and dicts of a result with its reference.

    `terms` is how many summands each element accumulates. A dtype in the result that is coarser
    than `dtype` (a conversion) widens the tolerance to its own. `norm` is the norm of the deviation
    of an array; by default, the largest element. Gradients behind a ReLU need 2, the Euclidean
    norm: if rounding turns one unit of one sample on or off, single elements jump.
    """
    left, right = _leaves(actual), _leaves(expected)
    if len(left) != len(right):
        return Answer(fault=f"{len(left)} results, reference {len(right)}")
    error, allowed, compared = 0.0, dtypes.tolerance(dtype, terms), False
    for one, other in zip(left, right, strict=True):
        got, want = _as_float64(one), _as_float64(other)
        if got is None or want is None:
            continue
        if got.shape != want.shape:
            return Answer(fault=f"shape {tuple(got.shape)}, reference {tuple(want.shape)}")
        if isinstance(one, torch.Tensor):
            allowed = max(allowed, dtypes.tolerance(one.dtype, terms))
        compared = True
        error = max(error, _leaf_error(got, want, norm))
    if not compared:
        return Answer()
    fault = ""
    if not error <= allowed:
        of = "the largest element" if norm == math.inf else "the norm"
        fault = f"off by {error:.2g} of {of}, tolerance {allowed:.2g}"
    return Answer(error, allowed, fault)


def repeatable(first: Any, second: Any) -> bool:
    """Return whether two results have the same values, NaN included."""
    pairs = zip(map(_as_float64, _leaves(first)), map(_as_float64, _leaves(second)), strict=True)
    return all(one is None or other is None or _same(one, other) for one, other in pairs)


def shape_only(result: torch.Tensor, *sizes: object, **_: object) -> Answer:
    """Check `empty` or `empty_like`, which promise a shape and no values."""
    like = sizes[0] if sizes else None
    wanted = like.shape if isinstance(like, torch.Tensor) else torch.Size(sizes)  # type: ignore[arg-type]
    return Answer(fault="" if result.shape == wanted else f"shape {tuple(result.shape)}")


def same_values(source: torch.Tensor) -> Callable[..., Answer]:
    """Return a check that every value was copied exactly, except for rounding to the new dtype."""

    def check(result: torch.Tensor, *_: object, **__: object) -> Answer:
        expected = source.detach().to(CPU).to(result.dtype)
        differ = (result.detach().to(CPU) != expected).to(torch.float64).mean().item()
        fault = f"{differ:.2%} of the values were not copied exactly" if differ else ""
        return Answer(differ, 0.0, fault)

    return check


def _changes_show(one: Any, other: Any) -> bool:
    """Return whether a change of the first element of `one` also changes `other`."""
    one[0] = not bool(other[0])
    return bool(one[0] == other[0])


def shared(result: Any, source: Any, *_: object, **__: object) -> None:
    """Prove that result and source share memory: a change of either changes the other."""
    if not (_changes_show(result, source) and _changes_show(source, result)):
        raise WrongAnswer("memory is not shared: a change of one side does not change the other")


def copied(result: Any, source: Any, *_: object, **__: object) -> None:
    """Prove that result and source do not share memory."""
    if _changes_show(result, source) or _changes_show(source, result):
        raise WrongAnswer("memory is shared, although the operation promises a copy")


def moments(mean: float, std: float) -> Callable[..., Answer]:
    """Return a check of the mean and the standard deviation of random numbers.

    The error is the larger deviation divided by `std`. The tolerance is six standard errors of the
    mean, 6/sqrt(n) (one false alarm in 5e8), plus the rounding of the dtype. The standard error of
    the standard deviation is not larger, for uniform and for normal numbers.
    """

    def check(result: torch.Tensor, *_: object, **__: object) -> Answer:
        values = result.detach().to(CPU).to(torch.float64)
        count = values.numel()
        spread = values.std(correction=0).item()  # NaN where any of them is
        off = max(abs(values.mean().item() - mean), abs(spread - std)) / std
        off = math.inf if math.isnan(off) else off
        allowed = 6 / math.sqrt(count) + dtypes.tolerance(result.dtype)
        if count < 1000:  # too few to judge: 16 uniform numbers may be alike by chance
            allowed += 1.0
        fault = "" if off <= allowed else f"moments off by {off:.2g} standard deviations"
        return Answer(off, allowed, fault)

    return check
