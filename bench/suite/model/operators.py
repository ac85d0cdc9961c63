"""The operators of a forward pass, with the arguments that they get in it."""

import math
import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from bench.measure import arguments

#: Parts of the names of operators with kinks.
KINKS = ("relu", "clamp", "hard", "threshold", "abs", "max", "min", "sort", "topk")


@dataclass
class Operator:
    """An operator of ATen with the arguments of its first call.

    `shapes` are those of its tensors, and `uses` how often a forward pass calls it with them and
    with the same other arguments. `terms` is how many products or summands each element of the
    result has, estimated from the sizes: sqrt(k m * k n / (m n)) of a product of matrices. The
    result has `size` elements.
    """

    name: str
    call: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: str
    terms: int = 1
    size: int = 1
    uses: int = 1

    @property
    def has_kinks(self) -> bool:
        """Whether its derivative jumps, so that rounding of its argument can change it."""
        return any(word in self.name for word in KINKS)


def operators(module: torch.nn.Module, inputs: tuple[Any, ...]) -> list[Operator]:
    """Return the operators of a forward pass that compute something, each once.

    Views, which only describe a tensor's memory, are left out. Raises what torch.export raises if
    it cannot trace the model.
    """
    exported = torch.export.export(module, inputs, strict=False).run_decompositions({})
    recorder = _Recorder(exported.module())
    with torch.no_grad():
        recorder.run(*inputs)
    found = list(recorder.found.values())
    seen: Counter[tuple[str, str]] = Counter()
    for one in found:
        alike = (one.name, one.shapes)
        seen[alike] += 1
        if seen[alike] > 1:  # they differ in a stride, for example
            one.name = f"{one.name}-{seen[alike]}"
    return found


class _Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps the arguments of each call of an operator."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.found: dict[str, Operator] = {}

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operator; keep what it was called with unless it is a view."""
        result = super().call_function(target, args, kwargs)
        given, made = arguments.tensors([args, kwargs]), arguments.tensors(result)
        if target is operator.getitem or not given or not made or _shares_memory(made, given):
            return result
        shapes = "_".join("x".join(map(str, one.shape)) or "1" for one in given)
        key = f"{target} {_described(args)} {_described(kwargs)}"
        if key in self.found:
            self.found[key].uses += 1
        else:
            name = str(target).removeprefix("aten.").partition(".")[0].strip("_")
            name = name.removesuffix("_legit_no_training")  # batch norm with its running statistics
            used, named = arguments.walk((args, kwargs), _copied)
            terms = _terms(given, made[0])
            size = made[0].numel()
            self.found[key] = Operator(name, target, used, named, shapes, terms, size)
        return result


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf


def _shares_memory(made: list[torch.Tensor], given: list[torch.Tensor]) -> bool:
    known = {one.untyped_storage().data_ptr() for one in given}
    return all(one.untyped_storage().data_ptr() in known for one in made if one.numel())


def _described(value: Any) -> str:
    """Return arguments as text, tensors by shape, strides and dtype."""

    def change(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return f"{tuple(leaf.shape)} {leaf.stride()} {leaf.dtype}"
        return leaf

    return str(arguments.walk(value, change))


def _terms(given: list[torch.Tensor], made: torch.Tensor) -> int:
    sizes = sorted((one.numel() for one in given), reverse=True)
    size = max(1, made.numel())
    product = math.sqrt(sizes[0] * sizes[1] / size) if len(sizes) > 1 else 1
    return max(1, round(product), sizes[0] // size)
