"""Prove a setting: the default and the winner train in alternating fresh processes."""

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import bench
from bench.measure import environment
from bench.records.lines import last_line
from bench.report import units
from bench.stats.ratios import Ratio
from bench.suite.training.models import NeuralNetwork
from bench.tune import training
from bench.tune.named import called
from bench.tune.search import CannotTune, Pruned, factor

#: Fresh processes a side.
RUNS = 5
SIDES = ("default", "winner")
#: Seconds that a process takes to start, until one has been timed.
START_S = 8.0
#: Trainings that are longer are made once in each process. The first of their seeds.
LONG_S, FIRST_SEED = 2.0, 1000


def network(model: str) -> Callable[[], torch.nn.Module]:
    """Return what makes the network: the notes' one, or the user's ``MODULE:NAME``."""
    if not model:
        return NeuralNetwork
    if not isinstance(made := called("--model", model), torch.nn.Module):
        raise CannotTune(f"--model: {model!r} returns {type(made).__name__}, no Module")
    return functools.partial(called, "--model", model)


def child() -> None:
    """Read what to train as JSON; train; print the seconds and losses."""
    asked = json.load(sys.stdin)
    environment.set_threads(asked["threads"])
    setting = training.Setting(**asked["setting"])
    parts = torch.load(asked["samples"], weights_only=True)
    task = training.Task(network(asked["model"]), *parts)
    found = [training.train(task, setting, seed, *asked["until"]) for seed in asked["seeds"]]
    answer = {name: [getattr(one, name) for one in found] for name in ("seconds", "loss")}
    print("\n" + json.dumps(answer))


@contextlib.contextmanager
def fresh(
    task: training.Task, model: str, target: float, limit_s: float
) -> Iterator[Callable[[training.Setting, list[int]], Any]]:
    """Yield a function that trains in a fresh process and returns its seconds and losses.

    It raises Pruned if the process fails. The samples are read once, and given to it in a file.
    """
    path = os.pathsep.join(
        filter(None, [str(Path(bench.__file__).parents[1]), os.environ.get("PYTHONPATH")])
    )
    with tempfile.TemporaryDirectory(prefix="bench-tune-") as folder:
        samples = os.path.join(folder, "samples.pt")
        torch.save((task.train, task.held_out), samples)

        def train(setting: training.Setting, seeds: list[int]) -> Any:
            asked: dict[str, Any] = {"setting": asdict(setting), "seeds": seeds}
            asked |= {"samples": samples, "threads": torch.get_num_threads(), "model": model}
            done = subprocess.run(
                [sys.executable, "-P", "-c", "from bench.tune import proof; proof.child()"],
                input=json.dumps(asked | {"until": (target, limit_s)}),
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                errors="replace",
                check=False,
            )
            if done.returncode:
                raise Pruned(last_line(done.stderr))
            return json.loads(done.stdout.splitlines()[-1])

        yield train


def seeds(default_s: float) -> list[range]:
    """Return the seeds of each process: several if a training with the default is short.

    They are not those of the search: they did not select the winner.
    """
    count = training.SEEDS if default_s < LONG_S else 1
    return [
        range(FIRST_SEED + place * count, FIRST_SEED + (place + 1) * count) for place in range(RUNS)
    ]


def prove(
    sides: Mapping[str, training.Setting],
    seeds: Sequence[Sequence[int]],
    train: Callable[[training.Setting, list[int]], Any],
    runs: dict[str, list[Any]],
    budget_s: float,
    keep: Callable[[], object],
    show: Callable[[float, str], object] = lambda seconds, what: None,
    now: Callable[[], float] = time.perf_counter,
) -> None:
    """Add to `runs` what is missing of a process per side and `seeds`, within the budget."""
    began, longest = now(), 0.0
    for number, chosen in enumerate(seeds):
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        for side in order:
            if len(runs.setdefault(side, [])) > number:
                continue
            if now() - began + (longest or START_S) > budget_s:
                return
            start = now()
            show(now() - began, f"proof {number + 1} of {len(seeds)}: {sides[side]}")
            runs[side].append(train(sides[side], list(chosen)))
            longest = max(longest, now() - start)
            keep()


def result(runs: Mapping[str, list[Any]], target: float) -> tuple[Ratio | None, str]:
    """Return how many times as fast the winner is, and what both sides reached.

    A value is the geometric mean of a process; None from fewer than two processes a side.
    """
    means = {
        side: [statistics.geometric_mean(run["seconds"]) for run in runs.get(side, [])]
        for side in SIDES
    }
    default, winner = (means[side] for side in SIDES)
    count = min(len(default), len(winner))
    if count < 2:
        return None, (
            f"Not proven: the budget allowed {count} of {RUNS} fresh processes per side; give more "
            "--budget."
        )
    losses = [statistics.median(x for run in runs[side] for x in run["loss"]) for side in SIDES]
    seen = (
        f"{count} fresh processes per side in turn: a loss of {target:g} after "
        f"{units.seconds(statistics.median(winner))} (then it was {losses[1]:.3g}), with the "
        f"default after {units.seconds(statistics.median(default))} ({losses[0]:.3g}); medians."
    )
    if count < RUNS:
        seen += f" The budget allowed no more than {count} of {RUNS}."
    return factor([1 / s for s in default], [1 / s for s in winner]), seen
