"""Compare the suite with ``torch.utils.benchmark.Timer.blocked_autorange``, on the same calls.

``python -m tests.validation.agreement`` times twelve operations from about 1 us to 10 ms with both
tools alternately, A B B A, in one process. Other programs only add time, and they add more to the
tool that averages longer: for an operation of 1 us the Timer uses blocks of 100,000 calls (0.1 s),
and this suite rounds of 1 ms. So a tool's figure is the median of its quietest turn (Chen and
Revels, "Robust benchmarking in noisy environments", 2016, give the argument for the minimum). The
median over all turns is printed too. The exit status is 0 if the median ratio of the twelve cells
is between 0.97 and 1.03, else 1.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.benchmark import Timer

from bench.measure import devices, operations, rounds
from bench.report import units

AGREE = (0.97, 1.03)
TURNS = 7


def compare(
    device: devices.Device, operation: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[list[float], list[float]]:
    """Median seconds of one call in each turn, by this suite and by the Timer."""
    plan = rounds.Plan(min_rounds=20, max_time_s=0.1, min_time_s=0.001)
    loop = rounds.compile_loop(operation, args, {}, device.clock)
    names = [f"arg{i}" for i in range(len(args))]
    timer = Timer(
        f"operation({', '.join(names)})",
        globals={"operation": operation, **dict(zip(names, args, strict=True))},
        # Its own default is one thread, whatever the machine and torch are set to.
        num_threads=torch.get_num_threads(),
    )
    cost = device.clock_cost()
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(TURNS):
        for ours_now in (turn % 2 == 0, turn % 2 == 1):
            if ours_now:
                ours.append(statistics.median(rounds.measure(loop, plan, cost).rounds_s))
            else:
                theirs.append(timer.blocked_autorange(min_run_time=0.1).median)
    return ours, theirs


def main() -> None:
    """Print the table and exit 0 where the two agree."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.validation.agreement", description=__doc__
    )
    parser.add_argument("--device", default="cpu", help="device to time on (cpu, cuda, mps)")
    try:
        device = devices.find(parser.parse_args().device)
    except devices.UnknownDevice as problem:
        parser.error(f"--device: {problem}")
    lines, ratios = [], []
    for name, operation, args in operations.core(device.torch_device):
        ours, theirs = compare(device, operation, args)
        ratios.append(min(ours) / min(theirs))
        times = (units.seconds(min(ours)), units.seconds(min(theirs)))
        all_turns = statistics.median(ours) / statistics.median(theirs)
        lines.append((name, *times, f"{ratios[-1]:.3f}", f"{all_turns:.3f}"))
    headers = ("cell", "this suite", "Timer", "ratio, quietest turn", "ratio, all turns")
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
