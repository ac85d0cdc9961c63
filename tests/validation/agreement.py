"""Compare the suite with ``torch.utils.benchmark.Timer.blocked_autorange``, on the same calls.

``python -m tests.validation.agreement`` times the calls of 24 cells with both tools alternately,
A B B A, in one process on one thread. With ``--by-hand``, the factories, `zero_grad`, the first
batch and the epochs of a DataLoader are compared with loops of `tests.validation.by_hand`. Other programs only add time, and they add more to the
tool that averages longer: for an operation of 1 us the Timer uses blocks of 100,000 calls (0.1 s),
and this suite rounds of 1 ms. So a tool's figure is the median of its quietest turn (Chen and
Revels, "Robust benchmarking in noisy environments", 2016, give the argument for the minimum). The
median over all turns is printed too. The exit status is 0 if the median ratio of the cells
is between 0.97 and 1.03, else 1.
"""

import argparse
import inspect
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.benchmark import Timer

from bench.measure import devices, dtypes, rounds
from bench.measure.cell import Cell
from bench.measure.rounds import prepared
from bench.plugin import rows
from bench.report import units
from tests.validation.answers import cells
from tests.validation.by_hand import LOOPS

AGREE = (0.97, 1.03)
TURNS = 7


#: The cells that are used most, and those that prepare their calls, by their pytest names.
CELLS = [
    "matmul[cpu-float32-n64]",
    "matmul[cpu-float32-n512]",
    "matmul[cpu-bfloat16-n256]",
    "bmm[cpu-float32-n64-batch32]",
    "elementwise_chain[cpu-float32-n65536]",
    "sum[cpu-float32-n1024]",
    "softmax[cpu-float32-n256]",
    "contiguous[cpu-float32-n1024]",
    "zeros[cpu-float32-n1048576]",
    "ones_like[cpu-float32-n1048576]",
    "rand[cpu-float32-n1048576]",
    "tensor_from_list[cpu-float32-n16384]",
    "add[cpu-float32-n16-in_place]",
    "add[cpu-float32-n1048576-out_of_place]",
    "relu[cpu-float32-n1048576-out_of_place]",
    "sigmoid[cpu-float32-n1048576-out_of_place]",
    "cat[cpu-float32-n16-count2-dim0-contiguous]",
    "to_numpy[cpu-float32-n16]",
    "item[cpu-float32]",
    "convert[cpu-bfloat16-n1048576-float32]",
    "linear[cpu-float32-module]",
    "forward[cpu-float32-batch64]",
    "cross_entropy[cpu-float32-batch64-index]",
    "step[cpu-float32-batch64]",
]


class Recorder(Cell):
    """A cell that keeps its call instead of timing it."""

    def __call__(self, operation: Any, *args: Any, prepare: Any = None, **kwargs: Any) -> None:
        """Keep the call, without what only its check needs."""
        checks = inspect.signature(Cell.__call__).parameters
        self.call = operation, args, {k: v for k, v in kwargs.items() if k not in checks}, prepare


def timer_of(cell: Recorder) -> Callable[[], float]:
    """Return a loop of the Timer over the call of a cell."""
    operation, args, kwargs, _ = cell.call
    given = [f"arg{i}" for i in range(len(args))]
    words = [*given, *(f"{name}={name}" for name in kwargs)]
    timer = Timer(
        f"operation({', '.join(words)})",
        globals={"operation": operation, **dict(zip(given, args, strict=True)), **kwargs},
        num_threads=1,
    )
    return lambda: float(timer.blocked_autorange(min_run_time=0.1).median)


def compare(
    device: devices.Device, cell: Recorder, other: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Median seconds of one call in each turn, by this suite and by the other loop."""
    operation, args, kwargs, prepare = cell.call
    plan = rounds.Plan(min_rounds=5, max_time_s=0.1, min_time_s=0.001)
    cost = device.clock_cost()
    if prepare:
        loop = prepared(operation, prepare, args, kwargs, device.clock, cost)
    else:
        loop = rounds.compile_loop(operation, args, kwargs, device.clock)
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(TURNS):
        for ours_now in (turn % 2 == 0, turn % 2 == 1):
            if ours_now:
                ours.append(statistics.median(rounds.measure(loop, plan, cost).rounds_s))
            else:
                theirs.append(other())
    return ours, theirs


def main() -> None:
    """Print the table and exit 0 where the two agree."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.validation.agreement", description=__doc__
    )
    parser.add_argument("--by-hand", action="store_true", help="loops by hand, not the Timer")
    hand = parser.parse_args().by_hand
    device = devices.find("cpu")
    torch.set_num_threads(1)
    items = {item.name.removeprefix("bench_"): item for item in cells()}
    lines, ratios = [], []
    for name in LOOPS if hand else CELLS:
        given = rows.given(items[name])
        params = {key: value for key, value in given.items() if key not in ("device", "dtype")}
        cell = Recorder(device, dtypes.find(given["dtype"]), None)
        items[name].obj(cell, **params)
        ours, theirs = compare(device, cell, LOOPS[name]() if hand else timer_of(cell))
        cell.close()
        ratios.append(min(ours) / min(theirs))
        times = (units.seconds(min(ours)), units.seconds(min(theirs)))
        all_turns = statistics.median(ours) / statistics.median(theirs)
        lines.append((name, *times, f"{ratios[-1]:.3f}", f"{all_turns:.3f}"))
    headers = ("cell", "this suite", "other", "ratio, quietest turn", "ratio, all turns")
    align = ("left", "right", "right", "right", "right")
    print(tabulate(lines, headers, colalign=align, disable_numparse=True))
    median = statistics.median(ratios)
    agrees = AGREE[0] <= median <= AGREE[1]
    within = sum(AGREE[0] <= ratio <= AGREE[1] for ratio in ratios)
    print(
        f"\nmedian ratio {median:.3f}, {within} of {len(ratios)} cells within "
        f"{AGREE[0]} to {AGREE[1]}: {'agrees' if agrees else 'DISAGREES'}"
    )
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
