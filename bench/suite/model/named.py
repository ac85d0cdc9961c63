"""The model that the user names, and its inputs."""

import copy
import logging
import pkgutil
import re
import sys
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure import arguments
from bench.measure.cell import Cell
from bench.records import lines
from bench.suite.model.operators import Operator, operators

#: An input by its shape, such as ``64x3x224x224``, and its dtype, if it is not that of the cell.
_SHAPE = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?")


@dataclass(frozen=True)
class Model:
    """A model in float32 on the CPU, its positional inputs, and its name in the results.

    Without `operators`, the `fault` says in one line why they cannot be timed.
    """

    name: str
    module: torch.nn.Module
    inputs: tuple[Any, ...]

    operators: list[Operator]
    fault: str = ""

    def on(self, cell: Cell) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        """Return copies of the model and its inputs on the cell's device, in its dtype."""
        module = copy.deepcopy(self.module).to(cell.device, cell.dtype)
        return module, moved(self.inputs, cell)


#: The model of `--model`; `load` sets it.
CURRENT: list[Model] = []


def moved(values: Any, cell: Cell) -> Any:
    """Return a copy of arguments on the cell's device, floating-point ones in its dtype."""

    def change(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            dtype = cell.dtype if leaf.dtype.is_floating_point else leaf.dtype
            return leaf.detach().to(cell.device, dtype, copy=True)
        if isinstance(leaf, torch.device):
            return cell.device
        if isinstance(leaf, torch.dtype) and leaf.is_floating_point:
            return cell.dtype
        return leaf

    return arguments.walk(values, change)


def load(name: str, shapes: list[str]) -> None:
    """Import the model ``MODULE:NAME`` and make its inputs; ValueError with one line.

    It is a module, or a function without arguments that returns a module, or a module and a tuple
    of inputs. `shapes` replace these inputs: random numbers; whole ones are 0 or 1.
    """
    if "" not in sys.path:  # modules of the current folder, as for `python -m`
        sys.path.insert(0, "")
    try:
        made = pkgutil.resolve_name(name)
        made = made if isinstance(made, torch.nn.Module) else made()
    except Exception as problem:  # code of the user may raise anything
        what = lines.of_exception(problem)
        raise ValueError(f"cannot import {name!r} and call it: {what}") from None
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, ())
    if not isinstance(module, torch.nn.Module):
        kind = type(module).__name__
        raise ValueError(f"{name} gives a {kind}, not a torch.nn.Module or (module, inputs)")
    inputs = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    inputs = tuple(map(_input, shapes)) or inputs
    if not inputs:
        raise ValueError(
            f"{name} has no inputs: give their shapes, such as --input 64x3x224x224 or "
            "--input 8x128:int64, or return (module, inputs)"
        )
    module = module.eval().to("cpu", torch.float32)
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception as problem:
        what = lines.of_exception(problem)
        raise ValueError(f"{name} does not take these inputs: {what}") from None
    found, fault = [], ""
    logging.disable()  # torch.export also logs what it raises
    try:
        found = operators(module, inputs)
    except Exception as problem:  # whatever torch.export raises for what it cannot trace
        fault = f"its operators cannot be timed one by one: {lines.of_exception(problem)}"
    finally:
        logging.disable(logging.NOTSET)
    CURRENT[:] = [Model(name.rpartition(":")[2] or name, module, inputs, found, fault)]


def _input(words: str) -> torch.Tensor:
    match = _SHAPE.fullmatch(words)
    dtype = getattr(torch, match[2] or "float32", None) if match else None
    if match is None or not isinstance(dtype, torch.dtype):
        raise ValueError(f"{words!r} is no input; write a shape such as 64x3x224x224, or 8:int64")
    shape = tuple(map(int, match[1].split("x")))
    generator = torch.Generator().manual_seed(2147)
    if not dtype.is_floating_point:
        return torch.randint(0, 2, shape, generator=generator).to(dtype)
    return torch.randn(shape, generator=generator).to(dtype)
