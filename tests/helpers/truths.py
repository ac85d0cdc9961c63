"""Models of machines whose truth is known: what `verdict` must say of them is known as well."""

import math
import random
from dataclasses import dataclass, field

from bench.compare import cells
from bench.verdicts import answers
from tests.helpers.frames import HOSTILE, frame

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)


@dataclass
class Machine:
    """Times of a call are overhead + size * cost, with noise between runs."""

    name: str = "model"
    runs: int = 5
    noise: float = 0.01
    seed: int = 1
    rows: list[dict] = field(default_factory=list)

    def __post_init__(self):
        """Begin the noise."""
        self.random = random.Random(self.seed)

    def cell(self, seconds, width=1.0, **columns):
        """Add a cell with that true time, in every run; 95 % of the intervals hold it."""
        wide = width * math.exp(1.96 * max(self.noise, 0.005))
        for run in range(self.runs):
            seen = seconds * self.random.lognormvariate(0, self.noise)
            self.rows.append(
                {"machine": self.name, "run_id": f"{self.name}-{run}", "median_s": seen}
                | {"ci_low_s": seen / wide, "ci_high_s": seen * wide}
                | columns
            )
        return self

    def fault(self, status, reason, **columns):
        """Add a cell without a usable time."""
        for run in range(self.runs):
            known = {"machine": self.name, "run_id": f"{self.name}-{run}", "median_s": None}
            self.rows.append(known | {"status": status, "reason": reason} | columns)
        return self

    def sweep(self, device, overhead, cost, benchmark="step", param="batch", sizes=BATCHES):
        """Add a benchmark of `training` along a param."""
        for size in sizes:
            known = {"family": "training", "benchmark": benchmark, "device": device}
            self.cell(overhead + cost * size, params=f"{param}={size}", items=size, **known)
        return self

    def crossing(self, at, overhead=1e-3, cost=10e-6, gain=4):
        """Add a step on cpu and on mps that is faster from batch `at` on."""
        self.sweep("cpu", overhead, cost)
        # overhead + cost * at = other + cost / gain * at
        return self.sweep("mps", overhead + at * cost * (1 - 1 / gain), cost / gain)

    def frame(self):
        """The rows as the reader gives them."""
        return frame(*self.rows)


def a_machine(name="a model"):
    """A machine with two devices, and something for every picture."""
    machine = Machine(name=name, runs=2).crossing(96)
    for dtype, factor in (("float32", 1.0), ("float16", 40.0)):
        for n in (64, 256, 1024):
            known = {"benchmark": "matmul", "dtype": dtype, "params": f"n={n}"}
            machine.cell(factor * 1e-9 * n**2, **known, flop=2 * n**3, bytes=12 * n**2, items=n)
    machine.cell(1e-2, benchmark="copy", params="form=in_place;n=33554432", bytes=2.7e8)
    for workers, seconds in ((0, 0.2), (2, 0.1)):
        known = {"family": "loading", "benchmark": "loader", "items": 256}
        machine.cell(seconds, params=f"batch=64;workers={workers}", **known)
    for part in ("load", "forward", "whole"):
        known = {"family": "training", "benchmark": "step_part", "params": f"part={part}"}
        machine.cell(1e-3, **known)
    return machine.fault("wrong", HOSTILE, benchmark="linear", params="form=module")


def findings(machine, topic=None):
    """What the rules find of a machine, of one topic or all."""
    found = [made for one in answers.of(cells.of(machine.frame())) for made in one.findings]
    return [made for made in found if topic in (None, made.topic)]


def one(machine, topic):
    """The only finding of a topic."""
    (made,) = findings(machine, topic)
    return made


def factor(ratio):
    """The factor at stake, with its interval checked."""
    assert ratio.low <= ratio.value <= ratio.high
    return max(ratio.value, 1 / ratio.value)
