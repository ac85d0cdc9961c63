"""Check an answer: its values against a reference, and what it is: dtype, shape, memory.

A benchmark with ``expect=`` declares a reference by NumPy with a bound for each element, see
`bench.measure.references`; its result is judged by `judge`. Any other is compared with the same
computation on the CPU in float64 by `compare`.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.measure import dtypes
from bench.measure.references import Array, Blocks, Reference, double, numbers, pieces, stored

CPU = torch.device("cpu")
#: Elements that are judged at a time, so that they stay in the cache.
BLOCK = 65_536
#: Whether longdouble has more digits than float64; otherwise references of float64 err like it.
WIDER = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


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


def copies(arguments: Any) -> Any:
    """Return a copy of arguments that a call may change.

    The copy keeps strides, shared memory, and the connection of an optimizer with its module. It
    also keeps pinned memory, and the gradients of parameters, which `copy.deepcopy` drops.
    """
    known: dict[int, Any] = {}

    def pinned(leaf: Any) -> None:
        if isinstance(leaf, torch.Tensor) and leaf.device == CPU and leaf.is_pinned():
            known[id(leaf)] = leaf.clone().pin_memory()

    if torch.accelerator.is_available():
        walk(arguments, pinned)
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
    leaves: list[Any] = []
    walk(arguments, leaves.append)
    tied = any(isinstance(leaf, (torch.nn.Module, torch.optim.Optimizer)) for leaf in leaves)
    return walk(copies(arguments) if tied else arguments, _upcast)


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


def _parts(leaf: Any) -> Any:
    """Return the leaf's numbers, complex ones as pairs; None if it has none."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "c":
        leaf = torch.from_numpy(leaf)
    if isinstance(leaf, torch.Tensor):
        return torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf
    return np.asarray(leaf) if isinstance(leaf, (np.ndarray, np.generic, int, float)) else None


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
        got, want = _parts(one), _parts(other)
        if got is None or want is None:
            continue
        if got.shape != want.shape:
            return Answer(fault=f"shape {tuple(got.shape)}, reference {tuple(want.shape)}")
        if isinstance(one, torch.Tensor):
            allowed = max(allowed, dtypes.tolerance(one.dtype, terms))
        values, compared = double(want), True
        largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
        # An error per element would be misleading: an element that cancels to nearly zero carries
        # the rounding of its summands (Higham, "Accuracy and Stability of Numerical Algorithms",
        # 2nd ed., section 1.2).
        bounds = (allowed * largest, math.inf) if norm == math.inf else (math.inf, allowed)
        reference = Reference(values, torch.float64, float(bounds[0]), norm=bounds[1])
        error = max(error, _worst(got, reference)[0])
    if not compared:
        return Answer()
    fault = ""
    if not error <= allowed:
        of = "the largest element" if norm == math.inf else "the norm"
        fault = f"off by {error:.2g} of {of}, tolerance {allowed:.2g}"
    return Answer(error, allowed, fault)


def _memory(value: Any) -> tuple[Any, int, int]:
    """Return the device, the first and the last address of a tensor's or array's numbers."""
    if isinstance(value, torch.Tensor):
        start = value.data_ptr()
        reach = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
        return value.device, start, start + (reach + 1) * value.element_size() * bool(value.numel())
    return CPU, *np.lib.array_utils.byte_bounds(value)


def _overlap(one: Any, other: Any) -> bool:
    first, second = _memory(one), _memory(other)
    return first[0] == second[0] and first[1] < second[2] and second[1] < first[2]


def _arrays(value: Any) -> list[Any]:
    return [leaf for leaf in _leaves(value) if isinstance(leaf, (torch.Tensor, np.ndarray))]


def fresh(result: Any, *args: Any, **_: Any) -> None:
    """Prove that the result shares no memory with an argument."""
    given = _arrays(list(args))
    if any(_overlap(one, other) for one in _arrays(result) for other in given):
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
    left, right = _leaves(one), _leaves(other)
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


def _facts(got: Any, want: Reference, device: torch.device) -> str:
    """Return in one line what a result is that it must not be, its values aside."""
    python = float if want.dtype.is_floating_point else int
    python = bool if want.dtype == torch.bool else python
    if want.kind is float:
        return "" if type(got) is python else f"a {type(got).__name__}, not a {python.__name__}"
    kind: Any = want.kind
    if not isinstance(got, kind):
        return f"a {type(got).__name__}, not a {kind.__name__}"
    if want.kind is list:
        kinds_seen = {type(one).__name__ for one in got}
        return "" if kinds_seen <= {python.__name__} else f"a list of {sorted(kinds_seen)}"
    dtype = got.dtype if isinstance(got, torch.Tensor) else torch.from_numpy(got[:0]).dtype
    if dtype != want.dtype:
        return f"dtype {dtype}, not {want.dtype}"
    if tuple(got.shape) != want.values.shape:
        return f"shape {tuple(got.shape)}, reference {want.values.shape}"
    if not isinstance(got, torch.Tensor):
        return ""
    place = want.device or device
    if got.device.type != place.type or place.index not in (None, got.device.index):
        return f"on device {got.device}, not {place}"
    if want.contiguous and not got.is_contiguous():
        return f"strides {got.stride()}, not contiguous"
    if got.requires_grad != want.requires_grad:
        return f"requires_grad is {got.requires_grad}"
    return ""


def _worst(got: Any, want: Reference) -> tuple[float, float]:
    """Return the error and its bound where their quotient is largest, relative to the reference."""
    size = math.prod(want.values.shape)
    reference_errors = 1 if WIDER or want.dtype != torch.float64 else 2
    exact = want.values.piece if isinstance(want.values, Blocks) else pieces(want.values)
    given = pieces(got)
    worst, found, largest = -1.0, (0.0, 0.0), 0.0
    overlap = square = deviation = spread = 0.0
    for start in range(0, size, BLOCK):
        part = slice(start, start + BLOCK)
        reference, mine = exact(part), given(part)
        if isinstance(want.bound, float) and want.bound == 0:
            unequal = mine != reference
            if not unequal.any():
                continue
            mine, reference = mine[unequal], reference[unequal]
            error, bound = _distance(mine, reference), np.zeros(len(mine))
        else:
            error = _distance(mine, reference)
            bound = want.bound(reference) if callable(want.bound) else np.asarray(want.bound)
            bound = bound.reshape(-1)[part] if bound.size == size != reference.size else bound
            bound = np.broadcast_to(bound.reshape(-1), error.shape) * reference_errors
        largest = max(largest, abs(float(reference.max())), abs(float(reference.min())))
        if not math.isfinite(bound.sum()):  # a reference that is not finite must be met exactly
            bound = np.where(np.isfinite(reference), bound, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = error / bound
        if not math.isfinite(quotient.sum()):
            quotient = np.where(error == 0, 0.0, quotient)
        place = int(np.argmax(quotient))
        if quotient[place] > worst:
            worst, found = float(quotient[place]), (float(error[place]), float(bound[place]))
        if math.isfinite(want.scale) or math.isfinite(want.norm):
            as_double = reference.astype(np.float64)
            overlap += float(mine.astype(np.float64) @ as_double)
            spread += float(np.square(as_double * bound).sum())
            square += float(as_double @ as_double)
            deviation += float(error @ error)
    unit = largest if 0 < largest < math.inf else 1.0
    found = found[0] / unit, found[1] / unit
    whole = square or 1.0
    for off, allowed in (
        (abs(overlap / whole - 1) if square else 0.0, want.scale + math.sqrt(spread) / whole),
        (math.sqrt(deviation / whole), want.norm),
    ):
        off = off if math.isfinite(off) else math.inf
        if math.isfinite(allowed) and off / allowed > worst:
            worst, found = off / allowed, (off, allowed)
    return found


def _distance(mine: Array, reference: Array) -> Array:
    """Return the distance of each element in float64; infinite where only one side is a number."""
    kind = np.longdouble if reference.dtype == np.longdouble else np.float64
    with np.errstate(invalid="ignore"):
        off = np.subtract(mine, reference, dtype=kind)
        off = np.abs(off, out=off).astype(np.float64, copy=False)
        if math.isfinite(off.sum()):
            return off
    agree = (mine == reference) | ((mine != mine) & (reference != reference))
    return np.where(agree, 0.0, np.where(np.isfinite(off), off, np.inf))


def judge(result: Any, expected: Any, device: torch.device) -> Answer:
    """Compare a result with its references: type, dtype, device, shape, strides, values.

    The answer has the error and the bound where their quotient is largest, both relative to the
    largest element of the reference.
    """
    wanted = _leaves(expected)
    # A list of Python numbers is one leaf.
    got = [result] if isinstance(expected, Reference) else _leaves(result)
    if len(got) != len(wanted):
        return Answer(fault=f"{len(got)} results, reference {len(wanted)}")
    error = allowed = 0.0
    for mine, want in zip(got, wanted, strict=True):
        if fault := _facts(mine, want, device):
            return Answer(fault=fault)
        off, bound = _worst(mine, want)
        if off > bound or off * allowed > error * bound or (error == 0 and bound > allowed):
            error, allowed = off, bound
        if not off <= bound:
            return Answer(off, bound, f"off by {off:.2g} of the largest element, bound {bound:.2g}")
    return Answer(error, allowed)


def notes(expected: Any) -> list[str]:
    """Return what the row says of the references, each once."""
    return list(dict.fromkeys(filter(None, (one.note for one in _leaves(expected)))))


def layout(*size: Any, dtype: torch.dtype, device: torch.device) -> Callable[..., Answer]:
    """Return a check of `empty`, which promises no values: dtype, device, shape, strides."""
    want = Reference(np.broadcast_to(0, size), dtype)
    return lambda result, *_, **__: Answer(fault=_facts(result, want, device))


def distribution(
    cumulative: Callable[[Array], Array], low: float = -math.inf, high: float = math.inf
) -> Callable[..., Callable[..., Answer]]:
    """Return what makes a check, for a size, dtype and device, of random numbers.

    They must have this distribution function (Kolmogorov-Smirnov) and lie between `low` and `high`.
    The largest distance between the two distribution functions of n numbers exceeds d with a
    probability below 2 exp(-2 n d**2) (Massart, Ann. Probab. 18(3), 1990): one false alarm in ten
    million checks. The rounding of the dtype moves the numbers by up to epsilon in addition. The
    halves of the numbers, and the numbers of two calls, must differ.
    """

    def made(*size: int, dtype: torch.dtype, device: torch.device) -> Callable[..., Answer]:
        layout_of, before = layout(*size, dtype=dtype, device=device), [np.empty(0)]

        def check(result: torch.Tensor, *_: object, **__: object) -> Answer:
            if fault := layout_of(result).fault:
                return Answer(fault=fault)
            flat = numbers(result).reshape(-1)
            values = np.sort(flat.astype(np.float64))
            count = len(values)
            steps = np.arange(count + 1) / count
            model = cumulative(values)
            off = float(max(np.max(steps[1:] - model), np.max(model - steps[:-1])))
            off = off if math.isfinite(off) else math.inf
            allowed = math.sqrt(math.log(2 / 1e-7) / (2 * count)) + torch.finfo(dtype).eps
            fault = "" if off <= allowed else f"the distribution is off by {off:.2g}"
            half = count // 2
            if not fault and not low <= values[0] <= values[-1] <= high:
                fault = f"the random numbers go from {values[0]:.3g} to {values[-1]:.3g}"
            repeats = np.array_equal(flat[:half], flat[half : 2 * half])
            if not fault and (repeats or np.array_equal(flat, before[0])):
                fault = "the random numbers repeat themselves"
            before[0] = flat
            return Answer(off, allowed, fault)

        return check

    return made
