"""Time twelve small operations outside pytest; `bench doctor` starts this as a process.

Prints one JSON object: name -> ``median_s``, ``min_s``, ``spent_s`` and ``faults`` (codes).
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.measure import devices, environment, kernels, placement, profiles, visits
from bench.measure.cell import Cell
from bench.measure.checks import Result

#: Visits to each operation.
VISITS = 3

Operation = tuple[str, Callable[..., Any], tuple[Any, ...]]
#: The results of each cell, by name, as a process prints them.
Found = dict[str, dict[str, Any]]


def core(device: torch.device, dtype: torch.dtype = torch.float32) -> list[Operation]:
    """Twelve operations with their arguments, from 1 us to 10 ms on a CPU.

    The first ones show overhead, the later ones arithmetic and bandwidth. The sizes are those of
    the suite: operands of about the size of the last cache would take one of two times, depending
    on the memory pages of the process.
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


def measure(device: devices.Device, operations: Sequence[Operation]) -> Found:
    """Time each operation as the suite does, in `VISITS` passes over all of them."""
    environment.settle_allocator()
    placement.place()
    key = environment.current().key
    reference = kernels.prepare(key, [] if device.is_host else [device])
    plan = profiles.PROFILES["default"].plan
    cost = device.clock_cost()
    results: dict[str, Result] = {}
    spent = dict.fromkeys((name for name, _, _ in operations), 0.0)
    for _ in range(VISITS):
        for name, operation, args in operations:
            start = time.perf_counter()
            earlier = results.get(name)
            cell = Cell(device, torch.float32, plan, cost, reference=reference, earlier=earlier)
            cell(operation, *args, check=cell.unchecked)
            results[name] = cell.result
            spent[name] += time.perf_counter() - start
    reference.store(key)
    found: Found = {}
    for name, result in results.items():
        judged = visits.judge(result.visits, reference)
        times = {column: judged.columns[column] for column in ("median_s", "min_s")}
        faults = [one.code for one in judged.found] if judged.width > visits.WIDEST else []
        found[name] = {**times, "spent_s": spent[name], "faults": faults}
    return found


def main() -> None:
    """Print the results of the twelve on the device that is named on the command line as JSON."""
    device = devices.find(sys.argv[1])
    print(json.dumps(measure(device, core(device.torch_device))))


if __name__ == "__main__":
    main()
