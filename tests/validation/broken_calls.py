"""Changes of the arguments of a call, and of the functions that it calls."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bench.measure.arguments import copies
from bench.measure.proofs import overlap, same_bits
from tests.validation.broken_results import VALUES, NotApplied, change_values, leaves_of


def _swapped(args: tuple[Any, ...]) -> tuple[Any, ...]:
    first = args[0] if args else None
    if isinstance(first, list) and len(first) > 1:
        return first[::-1], *args[1:]
    if len(args) == 2 and all(isinstance(one, torch.Tensor) for one in args):
        return args[1], args[0]
    raise NotApplied


def skipped(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do nothing; return what an operation in place would return, otherwise no values."""
    result = operation(*copies(args), **kwargs)
    if result is None:
        return None
    leaves, mine = leaves_of(result), leaves_of(list(args))
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


class Buffer:
    """The memory in which a call returns each of its results, so that the next one overwrites it."""

    def __init__(self) -> None:
        self._memory: Any = None

    def holding(self, result: Any, args: tuple[Any, ...]) -> Any:
        """Return a tensor in this memory; raise `NotApplied` for other results, and for views."""
        if not isinstance(result, torch.Tensor) or overlap(result, list(args)):
            raise NotApplied
        with torch.no_grad():
            self._memory = result.clone() if self._memory is None else self._memory.copy_(result)
        return self._memory.requires_grad_(result.requires_grad)


def _one_index_off(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Change one label or index of a copy of the arguments."""
    copied = copies(args)
    found = [x for x in leaves_of(list(copied)) if isinstance(x, torch.Tensor)]
    found = [x for x in found if x.dtype == torch.int64 and x.numel() > 1]
    if not found or len(found) == len(leaves_of(list(args))):
        raise NotApplied
    flat = found[0].view(-1)
    flat[0] = flat[1] if flat[0] != flat[1] else flat.max() - flat[0]
    # Modules and optimizers stay those of the caller.
    return tuple(
        new if isinstance(new, torch.Tensor) else old for new, old in zip(copied, args, strict=True)
    )


def stale(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of a call on other values, as a call before may have left it."""
    other = copies(args)
    tensors = [x for x in leaves_of(list(other)) if isinstance(x, torch.Tensor)]
    mine = [x for x in leaves_of(list(args)) if isinstance(x, torch.Tensor)]
    with torch.no_grad():
        for x in tensors:
            if x.is_floating_point():
                x.copy_(-x.flip(0) if x.ndim else -x)
    plain = operation(*copies(args), **kwargs)
    result = operation(*other, **kwargs)
    if result is None or not leaves_of(result) or same_bits(plain, result):
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


def broken_inside(
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
