"""Ways to break the kernel of a benchmark: changes of its result, of its arguments, of its inside.

`broken` returns an operation with a fault. It raises `NotApplied` where the fault changes nothing.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bench.measure.arguments import copies, walk
from bench.measure.proofs import same_bits
from bench.suite.loading.workers import Pass

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
#: Breaks that are none for these benchmarks: they promise no values, or only a distribution.
NO_FAULT = {
    "empty": (*VALUES, "skipped", "stale", "later calls wrong"),
    "rand": (
        "one element 1 %",
        "one element 10 %",
        "zero",
        "row",
        "reversed",
        "stale",
        "two rows swapped",
    ),
    # Any half of the elements may be zero.
    "dropout": ("one element 1 %", "one element 10 %", "zero", "float64 by 1e-12"),
    # The strides follow from the algorithm.
    **dict.fromkeys(("conv2d", "conv2d_backward", "batch_norm"), ("strides",)),
    # It is a part of what these benchmarks time, not of what they promise.
    **dict.fromkeys(("backward", "forward_backward", "second_backward", "step"), ("strides",)),
    **dict.fromkeys(("autocast_step", "step_part", "compiled", "read_image"), ("strides",)),
}
NO_FAULT["randn"] = (*NO_FAULT["rand"], "sign")
OTHER = {"float32": torch.float64, "float64": torch.float32, "int64": torch.int32}


def _leaves(result: Any) -> list[Any]:
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
    leaves = _leaves(result)
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
        return [one.stride() for one in _leaves(x) if isinstance(one, torch.Tensor)]

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
    tensors = [leaf for leaf in _leaves(list(args)) if isinstance(leaf, torch.Tensor)]
    if not isinstance(result, torch.Tensor) or not tensors:
        raise NotApplied
    if any(_storage(one) == _storage(result) for one in tensors):
        return result.clone()
    for one in tensors:
        if one.shape == result.shape and one.dtype == result.dtype and not one.requires_grad:
            return one.copy_(result.detach())
    raise NotApplied


def broken(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operation with a fault, in every call or (`later ...`) from the second one on."""
    calls = itertools.count(1)
    if name in INSIDE:
        return _broken_inside(operation, INSIDE[name])
    if name in STATES:
        return _broken_state(operation, STATES[name])
    if name in PASSES:
        return _broken_pass(operation, PASSES[name])

    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if name == "skipped":
            return _skipped(operation, args, kwargs)
        if name == "stale":
            return _stale(operation, args, kwargs)
        if name in ARGUMENTS:
            plain = operation(*copies(args), **kwargs)
            args = ARGUMENTS[name](args)
        result = operation(*args, **kwargs)
        if name in ARGUMENTS and same_bits(plain, result):
            raise NotApplied
        if name in VALUES:
            return change_values(result, VALUES[name])
        if name == "later calls wrong":
            return change_values(result, VALUES["all zero"]) if number > 1 else result
        if name == "wrong dtype":
            return wrong_dtype(result)
        if name == "strides":
            return wrong_strides(result)
        if name == "wrong device":
            return wrong_device(result)
        if name == "wrong alias":
            return wrong_alias(result, args)
        return result

    return faulty


def _swapped(args: tuple[Any, ...]) -> tuple[Any, ...]:
    first = args[0] if args else None
    if isinstance(first, list) and len(first) > 1:
        return first[::-1], *args[1:]
    if len(args) == 2 and all(isinstance(one, torch.Tensor) for one in args):
        return args[1], args[0]
    raise NotApplied


def _skipped(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do nothing; return what an operation in place would return, otherwise no values."""
    result = operation(*copies(args), **kwargs)
    if result is None:
        return None
    leaves, mine = _leaves(result), _leaves(list(args))
    if not leaves:
        raise NotApplied
    if len(leaves) == 1 and mine and isinstance(leaves[0], torch.Tensor):
        first = mine[0]
        same = isinstance(first, torch.Tensor) and first.shape == leaves[0].shape
        if same and first.dtype == leaves[0].dtype and not torch.equal(first, leaves[0]):
            return first
    if isinstance(result, torch.nn.Module):
        return args[-1]
    return change_values(result, VALUES["all zero"])


def _one_index_off(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Change one label or index of a copy of the arguments."""
    copied = copies(args)
    found = [x for x in _leaves(list(copied)) if isinstance(x, torch.Tensor)]
    found = [x for x in found if x.dtype == torch.int64 and x.numel() > 1]
    if not found or len(found) == len(_leaves(list(args))):
        raise NotApplied
    flat = found[0].view(-1)
    flat[0] = flat[1] if flat[0] != flat[1] else flat.max() - flat[0]
    # Modules and optimizers stay those of the caller.
    return tuple(
        new if isinstance(new, torch.Tensor) else old for new, old in zip(copied, args, strict=True)
    )


def _stale(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of a call on other values, as a call before may have left it."""
    other = copies(args)
    tensors = [x for x in _leaves(list(other)) if isinstance(x, torch.Tensor)]
    mine = [x for x in _leaves(list(args)) if isinstance(x, torch.Tensor)]
    with torch.no_grad():
        for x in tensors:
            if x.is_floating_point():
                x.copy_(x.flip(0) if x.ndim else -x)
    plain = operation(*copies(args), **kwargs)
    result = operation(*other, **kwargs)
    if result is None or not _leaves(result) or same_bits(plain, result):
        raise NotApplied
    for x, old in zip(tensors, mine, strict=True):
        if result is x:  # in place
            return old.copy_(x)
    return result


ARGUMENTS: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "swapped": _swapped,
    "one index off": _one_index_off,
}


class _Inside(TorchFunctionMode):
    """Replaces functions that an operation calls, and counts the calls."""

    def __init__(self, replaced: dict[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self.replaced, self.count = replaced, 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the replacement, if there is one."""
        if function in self.replaced:
            self.count += 1
            return self.replaced[function](*args, **kwargs or {})
        return function(*args, **kwargs or {})


def _broken_inside(
    operation: Callable[..., Any], replaced: dict[Any, Callable[..., Any]]
) -> Callable[..., Any]:
    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        other = copies(args)
        with _Inside(replaced) as inside:
            result = operation(*args, **kwargs)
        if not inside.count or same_bits(result, operation(*other, **kwargs)):
            raise NotApplied
        return result

    return faulty


def _unpadded(x: Any, weight: Any, *_: Any, **__: Any) -> Any:
    return functional.pad(torch.conv2d(x, weight), (1, 1, 1, 1))


def _fresh_states(x: Any, *rest: Any, of: Any) -> Any:
    """Run a recurrent layer with its initial state in every step of time."""
    steps = [of(x[k : k + 1], *rest) for k in range(len(x))]
    return (torch.cat([one[0] for one in steps]), *steps[-1][1:])


def _topk(x: Any, count: int) -> Any:
    found = torch.topk(x, count)
    return type(found)((found.values.flip(-1), found.indices.flip(-1)))


def _sort(x: Any) -> Any:
    return torch.sort(x, descending=True)


def _without_sums(x: Any, dim: int) -> Any:
    return torch.cumsum(x, dim) - x


def _attention(**changed: Any) -> Callable[..., Any]:
    def attention(q: Any, k: Any, v: Any, **kwargs: Any) -> Any:
        if not changed.keys() & {"scale"} and not kwargs.get("is_causal"):
            raise NotApplied
        return functional.scaled_dot_product_attention(q, k, v, **kwargs | changed)

    return attention


#: Name -> functions that compute something else within the operation.
INSIDE: dict[str, dict[Any, Callable[..., Any]]] = {
    "without padding": {torch.conv2d: _unpadded},
    "kernel flipped": {torch.conv2d: lambda x, w, *a, **k: torch.conv2d(x, w.flip(2, 3), *a, **k)},
    "attention without scale": {functional.scaled_dot_product_attention: _attention(scale=1.0)},
    "attention without mask": {
        functional.scaled_dot_product_attention: _attention(is_causal=False)
    },
    "statistics ignored": {
        functional.batch_norm: lambda x, m, v, w, b, *_: x * w[:, None, None] + b[:, None, None],
        functional.layer_norm: lambda x, shape, w, b, *_: x * w + b,
    },
    "indices off by one": {
        functional.embedding: lambda i, table, **_: table[(i + 1) % len(table)],
        torch.index_select: lambda x, d, i: torch.index_select(x, d, (i + 1) % x.shape[d]),
        torch.gather: lambda x, d, i: torch.gather(x, d, (i + 1) % x.shape[d]),
        torch.scatter_add: lambda x, d, i, s: torch.scatter_add(x, d, (i + 1) % x.shape[d], s),
    },
    "other dimension": {
        torch.gather: lambda x, _, i: torch.gather(x, 0, i % len(x)),
        torch.cumsum: lambda x, dim: torch.cumsum(x, 1 - dim),
        torch.softmax: lambda x, dim: torch.softmax(x, (dim + 1) % x.ndim),
        torch.cat: lambda parts, dim=0: torch.cat(parts, 1 - dim).reshape(
            torch.cat(parts, dim).shape
        ),
    },
    "other order": {torch.topk: _topk, torch.sort: _sort, torch.cumsum: _without_sums},
    "duplicates lost": {torch.scatter_add: torch.scatter},
    "rate of dropout": {
        functional.dropout: lambda x, p, *_: functional.dropout(x, p - 0.1) / (1 - p) * (1.1 - p)
    },
    "dropout not scaled": {functional.dropout: lambda x, p, *_: functional.dropout(x, p) * (1 - p)},
    "no dropout": {functional.dropout: lambda x, *_: x.clone()},
    "sum, not mean": {
        functional.cross_entropy: lambda x, y, **_: functional.cross_entropy(x, y, reduction="sum")
    },
    "smoothed labels": {
        functional.cross_entropy: lambda x, y, **_: functional.cross_entropy(
            x, y, label_smoothing=0.1
        )
    },
    "no bias": {functional.linear: lambda x, w, _=None: x @ w.t()},
    "leaky relu": {
        one: lambda x, *_, **__: functional.leaky_relu(x) for one in (functional.relu, torch.relu)
    },
    "state ignored": {
        one: functools.partial(_fresh_states, of=one) for one in (torch.lstm, torch.gru)
    },
}


def _settings(**changed: Any) -> Callable[[Any], Any]:
    """Return a context in which an optimizer has other settings."""

    @contextlib.contextmanager
    def context(optimizer: torch.optim.Optimizer) -> Iterator[None]:
        (group,) = optimizer.param_groups
        before = {name: group[name] for name in changed if group.get(name)}
        if not before:
            raise NotApplied
        group.update({name: changed[name](value) for name, value in before.items()})
        try:
            yield
        finally:
            group.update(before)

    return context


@contextlib.contextmanager
def _not_zeroed(_: Any) -> Iterator[None]:
    """Leave gradients as they are, so that a backward pass adds to them."""
    calls: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in (nn.Module, torch.optim.Optimizer):
            patch.setattr(kind, "zero_grad", lambda *_, **__: calls.append(1))
        yield
    if not calls:
        raise NotApplied


@contextlib.contextmanager
def _not_disabled(_: Any) -> Iterator[None]:
    """Ignore autocast, no_grad and inference mode."""
    calls: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("autocast", "no_grad", "inference_mode"):
            patch.setattr(torch, name, lambda *_, **__: calls.append(1) or contextlib.nullcontext())
        yield
    if not calls:
        raise NotApplied


@contextlib.contextmanager
def _later_step(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Correct the bias of the moments as in a later step."""
    steps = [state["step"] for state in optimizer.state.values() if "step" in state]
    if "betas" not in optimizer.param_groups[0]:
        raise NotApplied
    for step in steps:  # none before the first step
        step += 10
    yield


#: Name -> the state in which a call is made; it gets the optimizer, or None.
STATES: dict[str, Callable[[Any], Any]] = {
    "rate 10 % off": _settings(lr=lambda rate: rate * 1.1),
    "no momentum": _settings(momentum=lambda _: 0, betas=lambda pair: (0.0, pair[1])),
    "no second moment": _settings(
        alpha=lambda _: 0.0, betas=lambda pair: (pair[0], 0.0), eps=lambda _: 1.0
    ),
    "no weight decay": _settings(weight_decay=lambda _: 0),
    "gradients added up": _not_zeroed,
    "contexts ignored": _not_disabled,
    "later step": _later_step,
}


def _broken_state(
    operation: Callable[..., Any], context: Callable[[Any], Any]
) -> Callable[..., Any]:
    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        found = [one for one in args if isinstance(one, torch.optim.Optimizer)]
        trains = found or any(isinstance(one, nn.Module) for one in args)
        if not trains or (not found and context not in (_not_zeroed, _not_disabled)):
            raise NotApplied
        with context(found[0] if found else None):
            return operation(*args, **kwargs)

    return faulty


class _Source:
    """The source of a pass, whose batches or samples are changed."""

    def __init__(self, source: Any, change: Callable[[list[Any]], list[Any]]) -> None:
        self._source, self._change = source, change

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        (sample,) = self._change([self._source[index]])
        return sample

    def __iter__(self) -> Iterator[Any]:
        return iter(self._change(list(self._source)))


def _labels_swapped(batches: list[Any]) -> list[Any]:
    images, labels = batches[0]
    if not isinstance(labels, torch.Tensor):
        return [(images, labels + 1)]
    labels[:2] = labels[:2].flip(0)
    return batches


def _first_image(change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    def changed(batches: list[Any]) -> list[Any]:
        images = batches[0][0]
        image = images if images.ndim == 3 else images[0]
        image.copy_(change(image.clone()))
        return batches

    return changed


def _several(change: Callable[[list[Any]], list[Any]]) -> Callable[[list[Any]], list[Any]]:
    def changed(batches: list[Any]) -> list[Any]:
        if len(batches) < 2:
            raise NotApplied
        return change(batches)

    return changed


#: Name -> a change of what a data set or a DataLoader delivers in a pass.
PASSES: dict[str, Callable[[list[Any]], list[Any]]] = {
    "batches swapped": _several(lambda batches: [batches[1], batches[0], *batches[2:]]),
    "a batch twice": _several(lambda batches: [batches[1], *batches[1:]]),
    "a batch missing": _several(lambda batches: batches[1:]),
    "labels swapped": _labels_swapped,
    "channel of an image flipped": _first_image(
        lambda x: torch.cat([x[:1], x[1:2].flip(-1), x[2:]])
    ),
    "channels swapped": _first_image(lambda x: x.flip(0)),
    "a pixel off by one": _first_image(lambda x: x + (torch.arange(x.numel()) == 0).view(x.shape)),
}


def _broken_pass(
    operation: Callable[..., Any], change: Callable[[list[Any]], list[Any]]
) -> Callable[..., Any]:
    passes: list[Pass] = []

    @functools.wraps(operation, assigned=("__name__",), updated=())
    def faulty(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Pass):
            passes.append(args[0])
            args[0]._source = _Source(args[0]._source, change)
        elif not passes:  # the timed calls have no pass
            raise NotApplied
        return operation(*args, **kwargs)

    return faulty


NAMES = (
    *VALUES,
    *("skipped", *ARGUMENTS, "stale", "wrong dtype", "strides", "wrong device", "wrong alias"),
    *("later calls wrong", *INSIDE, *STATES, *PASSES),
)
