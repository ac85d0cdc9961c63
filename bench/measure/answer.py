"""Check an answer: its values against a reference, and what it is: dtype, shape, memory.

A benchmark with ``expect=`` declares a reference by NumPy with a bound for each element, see
`bench.measure.references`; its result is judged by `judge`. Any other is compared with the same
computation on the CPU in float64 by `compare`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.measure import dtypes
from bench.measure.arguments import leaves
from bench.measure.arrays import Array, double, pieces
from bench.measure.references import Reference

#: Elements that are judged at a time, so that they stay in the cache.
BLOCK = 65_536
#: Whether longdouble has more digits than float64; otherwise references of float64 err like it.
WIDER = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


class WrongAnswer(Exception):
    """An answer is wrong; the message is one line with what was seen."""


@dataclass(frozen=True)
class Answer:
    """The relative error of an answer, and the largest error allowed.

    Both are None if the operation promises no values (`empty`). `fault` says in one line what is
    wrong, or is empty.
    """

    rel_error: float | None = None
    tolerance: float | None = None
    fault: str = ""


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
    left, right = leaves(actual), leaves(expected)
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


def _facts(got: Any, want: Reference, device: torch.device) -> str:
    """Return in one line what is wrong with a result besides its values."""
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
    if tuple(got.shape) != tuple(want.values.shape):
        return f"shape {tuple(got.shape)}, reference {tuple(want.values.shape)}"
    if not isinstance(got, torch.Tensor):
        return ""
    place = want.device or device
    if got.device.type != place.type or place.index not in (None, got.device.index):
        return f"on device {got.device}, not {place}"
    if want.contiguous and not got.is_contiguous() and got.stride() != want.strides:
        return f"strides {got.stride()}, not contiguous"
    if got.requires_grad != want.requires_grad:
        return f"requires_grad is {got.requires_grad}"
    return ""


def _worst(got: Any, want: Reference) -> tuple[float, float]:
    """Return the error and its bound where their quotient is largest, relative to the reference."""
    size = math.prod(want.values.shape)
    reference_errors = 1 if WIDER or want.dtype != torch.float64 else 2
    exact, given = pieces(want.values), pieces(got)
    bounds = pieces(0.0 if callable(want.bound) else want.bound)
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
            bound = want.bound(reference) if callable(want.bound) else bounds(part)
            bound = np.broadcast_to(bound, error.shape) * reference_errors
        largest = max(largest, abs(float(reference.max())), abs(float(reference.min())))
        if not math.isfinite(bound.sum()):  # a reference that is not finite must be met exactly
            bound = np.where(np.isfinite(reference) & ~np.isnan(bound), bound, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = error / bound
        if not math.isfinite(quotient.sum()):
            quotient = np.where(error == 0, 0.0, quotient)
        place = int(np.argmax(quotient))
        if quotient[place] > worst:
            worst, found = float(quotient[place]), (float(error[place]), float(bound[place]))
        if math.isfinite(want.scale) or math.isfinite(want.norm):
            start_ = 0 if want.origin is None else want.origin.reshape(-1)[part]
            as_double = reference.astype(np.float64) - start_
            overlap += float((mine.astype(np.float64) - start_) @ as_double)
            limited = math.isfinite(bound.sum())
            spread += float(np.square(as_double * bound).sum()) if limited else 0.0
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
        # An exact result has a bound too, although no element has one.
        if math.isfinite(allowed) and (off / allowed > worst or math.isinf(found[1])):
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
    wanted = leaves(expected)
    # A list of Python numbers is one leaf.
    got = [result] if isinstance(expected, Reference) else leaves(result)
    if len(got) != len(wanted):
        return Answer(fault=f"{len(got)} results, reference {len(wanted)}")
    error = allowed = 0.0
    for mine, want in zip(got, wanted, strict=True):
        if fault := _facts(mine, want, device):
            return Answer(fault=fault)
        off, bound = _worst(mine, want)
        if not off <= bound:
            return Answer(off, bound, f"off by {off:.2g} of the largest element, bound {bound:.2g}")
        if off * allowed > error * bound or (error == 0 and bound > allowed):
            error, allowed = off, bound
    return Answer(error, allowed)


def layout(*size: Any, dtype: torch.dtype, device: torch.device) -> Callable[..., Answer]:
    """Return a check of `empty`, which promises no values: dtype, device, shape, strides."""
    want = Reference(np.broadcast_to(0, size), dtype)
    return lambda result, *_, **__: Answer(fault=_facts(result, want, device))
