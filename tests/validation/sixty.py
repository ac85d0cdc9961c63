"""Time sixty small cells of the CPU as the suite does, and print them as JSON.

The cells are the twelve operations of `bench doctor` and eight more, in three dtypes.
"""

import json

import torch

from bench.measure import devices, dtypes, operations
from bench.measure.operations import Operation


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
            *operations.core(device, dtypes.find(dtype)),
            *more(device, dtypes.find(dtype)),
        )
    ]


if __name__ == "__main__":
    cpu = devices.find("cpu")
    print(json.dumps(operations.measure(cpu, sixty(cpu.torch_device))))
