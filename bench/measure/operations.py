"""Sixty small cells outside pytest: what `bench doctor` and the comparisons with peers time.

``python -m bench.measure.operations`` times the twelve of them that are in float32 and marked as
core, and prints one JSON object: name -> ``median_s``, ``min_s``, ``spent_s`` and ``faults``.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.measure import allocator, devices, dtypes, environment, placement, profiles, rounds
from bench.measure.answer import Answer
from bench.measure.cell import Cell, Disturbed, Result

#: How often a cell is tried at most before its faults stand.
ATTEMPTS = 3

Operation = tuple[str, Callable[..., Any], tuple[Any, ...]]
#: What a process found of each cell, as it prints it.
Found = dict[str, dict[str, Any]]


def core(device: torch.device, dtype: torch.dtype = torch.float32) -> list[Operation]:
    """Twelve operations with their arguments, from 1 us to 10 ms on a CPU.

    The first ones show overhead, the later ones arithmetic and bandwidth. The sizes are those of
    the suite: operands that together come near the size of the last cache take one of two times,
    by the pages that a process was given.
    """

    def make(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, device=device) + 0.5).to(dtype)

    small, middle, large = make(16), make(2**16), make(2**20)
    return [
        ("add_ n=16", torch.Tensor.add_, (make(16), small)),
        ("add n=16", torch.add, (small, small)),
        ("cat n=16", torch.cat, ([make(16, 16), make(16, 16)], 0)),
        ("softmax n=16", torch.softmax, (make(16, 16), 1)),
        ("add_ n=65536", torch.Tensor.add_, (make(2**16), middle)),
        ("cat n=256", torch.cat, ([make(256, 256), make(256, 256)], 0)),
        ("sigmoid n=65536", torch.sigmoid, (middle,)),
        ("matmul n=256", torch.matmul, (make(256, 256), make(256, 256))),
        ("add_ n=1048576", torch.Tensor.add_, (make(2**20), large)),
        ("matmul n=512", torch.matmul, (make(512, 512), make(512, 512))),
        ("sigmoid n=1048576", torch.sigmoid, (large,)),
        ("matmul n=1024", torch.matmul, (make(1024, 1024), make(1024, 1024))),
    ]


def more(device: torch.device, dtype: torch.dtype = torch.float32) -> list[Operation]:
    """Eight more operations of a few microseconds."""

    def make(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, device=device) + 0.5).to(dtype)

    return [
        ("mul n=16", torch.mul, (make(16), make(16))),
        ("relu n=65536", torch.relu, (make(2**16),)),
        ("sum n=256", torch.sum, (make(256, 256), 1)),
        ("stack n=16", torch.stack, ([make(16, 16), make(16, 16)],)),
        ("zeros_like n=65536", torch.zeros_like, (make(2**16),)),
        ("clone n=65536", torch.clone, (make(2**16),)),
        ("contiguous n=256", torch.Tensor.contiguous, (make(256, 256).t(),)),
        ("bmm n=64", torch.bmm, (make(32, 64, 64), make(32, 64, 64))),
    ]


def sixty(device: torch.device) -> list[Operation]:
    """All twenty in float32, float16 and bfloat16."""
    return [
        (f"{name} {dtype}", operation, args)
        for dtype in ("float32", "float16", "bfloat16")
        for name, operation, args in (
            *core(device, dtypes.find(dtype)),
            *more(device, dtypes.find(dtype)),
        )
    ]


def _unchecked(*_: object, **__: object) -> Answer:
    """The suite checks these operations; here only their time counts."""
    return Answer()


def measure(device: devices.Device, operations: Sequence[Operation]) -> Found:
    """Time each as the suite does; those that were disturbed again, after all others."""
    allocator.settle_allocator()
    placement.place()
    key = environment.current().key
    sticks = placement.yardsticks(key, len(operations))
    plan = profiles.PROFILES["default"].plan()
    cost = device.clock_cost()
    earlier: dict[str, list[Result]] = {}
    seconds: dict[str, float] = {}
    found: Found = {}
    waiting = list(operations)
    for name, operation, args in waiting:  # which grows
        attempts = earlier.setdefault(name, [])
        last = len(attempts) + 1 >= ATTEMPTS
        start = time.perf_counter()
        cell = Cell(device, torch.float32, plan, cost, None, sticks, attempts, not last)
        try:
            cell(operation, *args, check=_unchecked)
        except Disturbed:
            waiting.append((name, operation, args))
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        if cell.result.timing:
            times = rounds.summary(cell.result.timing)
            found[name] = {
                "median_s": times["median_s"],
                "min_s": times["min_s"],
                "spent_s": seconds[name],
                "faults": list(cell.result.signs.faults),
            }
    sticks.teach(key)
    return found


def main() -> None:
    """Print the medians of the twelve as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.measure.operations", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sixty", action="store_true", help="all sixty cells")
    given = parser.parse_args()
    try:
        device = devices.find(given.device)
    except devices.UnknownDevice as problem:
        parser.error(f"--device: {problem}")
    operations = (sixty if given.sixty else core)(device.torch_device)
    print(json.dumps(measure(device, operations)))


if __name__ == "__main__":
    main()
