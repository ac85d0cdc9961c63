"""The cells of `tests.validation.spread` under pytest-benchmark at its defaults, as most people use it.

Run by `tests.validation.spread`: ``pytest --noconftest tests/validation/plain.py --benchmark-json FILE``.
"""

import os
import time
from typing import Any

import pytest
import torch

from bench.measure import operations
from tests.validation import sixty as cells

CPU = torch.device("cpu")
CELLS = cells.sixty(CPU) if os.environ.get("CELLS") == "sixty" else operations.core(CPU)


@pytest.mark.parametrize(("operation", "args"), [c[1:] for c in CELLS], ids=[c[0] for c in CELLS])
def bench_cell(benchmark: Any, operation: Any, args: Any) -> None:
    """Time one cell, and note how long that took."""
    start = time.perf_counter()
    benchmark(operation, *args)
    benchmark.extra_info["seconds"] = time.perf_counter() - start
