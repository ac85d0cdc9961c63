"""Loops that a user would write by hand: each returns the median seconds of one call.

They use PyTorch alone, and none of the suite's clocks, loops or preparations.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from bench.suite.loading.data import custom_images
from bench.suite.training.models import NeuralNetwork

N = 2**20


def _many(body: Callable[[int], object], calls: int = 20) -> Callable[[], float]:
    """Return a loop over short calls, with one reading of the clock for about a millisecond."""

    def loop() -> float:
        times = []
        for _ in range(100):
            start = time.perf_counter()
            body(calls)
            times.append((time.perf_counter() - start) / calls)
        return statistics.median(times)

    return loop


def repeat(name: str, arguments: str) -> Callable[[int], object]:
    """Return a function that makes so many calls of a factory in a row, with local names."""
    names: dict[str, Any] = {"f": getattr(torch, name), "x": torch.ones(N)}
    exec(f"def body(n, f=f, x=x):\n    for _ in range(n):\n        f({arguments})", names)
    return names["body"]  # type: ignore[no-any-return]


def zero_grad_to_none() -> Callable[[], float]:
    """Time ``model.zero_grad()`` alone; the gradients are assigned before each call."""
    model = NeuralNetwork()
    gradients = [torch.ones_like(parameter) for parameter in model.parameters()]

    def loop() -> float:
        means = []
        for _ in range(20):
            total = 0.0
            for _ in range(100):
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter.grad = gradient
                start = time.perf_counter()
                model.zero_grad()
                total += time.perf_counter() - start
            means.append(total / 100)
        return statistics.median(means)

    return loop


def zero_grad_in_place() -> Callable[[], float]:
    """Time ``model.zero_grad(set_to_none=False)``."""
    model = NeuralNetwork()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    def body(calls: int) -> None:
        for _ in range(calls):
            model.zero_grad(set_to_none=False)

    return _many(body)


def first_batch() -> Callable[[], float]:
    """Time the first batch of two new workers, which end outside of the time."""
    dataset = custom_images()

    def loop() -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            batches = iter(DataLoader(dataset, 32, num_workers=2, multiprocessing_context="fork"))
            next(batches)
            times.append(time.perf_counter() - start)
            del batches
        return statistics.median(times)

    return loop


def epochs(workers: int) -> Callable[[], float]:
    """Time whole epochs of 1,024 images in batches of 32, whose workers live on."""
    settings: dict[str, Any] = {"persistent_workers": True} if workers else {}
    loader = DataLoader(custom_images(count=1_024), 32, num_workers=workers, **settings)

    def loop() -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            for _ in loader:
                pass
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    return loop


#: Factory -> its arguments, and so many calls that they take about a millisecond.
FACTORIES = {
    "empty": ("1048576", 1000),
    "zeros": ("1048576", 20),
    "ones": ("1048576", 20),
    "full": ("(1048576,), 3.0", 20),
    "arange": ("0, 1, 1 / 1048576", 3),
    "rand": ("1048576", 1),
    "empty_like": ("x", 1000),
    "zeros_like": ("x", 20),
    "ones_like": ("x", 20),
}
#: The pytest name of a cell -> what makes its loop.
LOOPS: dict[str, Callable[[], Callable[[], float]]] = {
    "zero_grad[cpu-float32-yes]": zero_grad_to_none,
    "zero_grad[cpu-float32-no]": zero_grad_in_place,
    **{
        f"{name}[cpu-float32-n{N}]": functools.partial(_many, repeat(name, arguments), calls)
        for name, (arguments, calls) in FACTORIES.items()
    },
    "first_batch[cpu-float32-fork]": first_batch,
    "loader[cpu-float32-batch32-workers0]": lambda: epochs(0),
    "loader[cpu-float32-batch32-workers2]": lambda: epochs(2),
}
