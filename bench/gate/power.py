"""How good a rule is: its false alarms on runs of unchanged code, and the slowdowns it finds.

Suites are drawn from such runs without replacement: half of the drawn ones play the baseline, half
the candidate. They are drawn at random, as where both sides alternate, or as they were made, one
side after the other, with what drifted meanwhile. For the slowdowns, one cell of the candidate is
made slower by a known factor.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.gate import check
from bench.stats.moderated import Key

#: What one run says of a cell, whatever a rule needs; None where it says nothing.
S = TypeVar("S")
Side = Mapping[Key, Sequence[S]]
#: Names the cells that it calls slower in the second side than in the first.
Rule = Callable[[Side[S], Side[S]], set[Key]]
SLOWDOWNS = (1.05, 1.10, 1.20)
#: Runs a side that `bench doctor --gate` judges with, and the share of slowdowns by a tenth that a
#: gate worth having finds.
FEWEST, WANTED = 5, 0.85


@dataclass(frozen=True)
class Power:
    """Of `suites` unchanged ones, `alarms` raised an alarm; `found` counts by slowdown.

    `exact` counts, by slowdown, the suites in which the slowed cell alone was named.
    """

    per_side: int
    suites: int
    alarms: int
    found: dict[float, int]
    exact: dict[float, int]

    @property
    def honest(self) -> bool:
        """Whether false alarms stay within what the gate promises."""
        return self.alarms <= check.Limits().alpha * self.suites

    @property
    def sharp(self) -> bool:
        """Whether it finds a slowdown by a tenth often enough."""
        return self.found[1.10] >= WANTED * self.suites


def examine(
    runs: Side[S | None],
    rule: Rule[S],
    slower: Callable[[S, float], S],
    per_side: int,
    suites: int,
    slowed: Sequence[Key] = (),
    alternating: bool = True,
    seed: int = 1,
) -> Power:
    """Judge `suites` suites of `per_side` runs a side, each unchanged and with each slowdown.

    `slowed` are the cells that may be slowed, all unless given; `alternating` says whether the
    runs of a suite are drawn at random or follow each other. Raises ValueError where there are
    too few runs.
    """
    source = random.Random(seed)
    count = max(map(len, runs.values()), default=0)
    if count < 2 * per_side:
        raise ValueError(f"{count} runs are too few for {per_side} a side")
    names = list(slowed) or list(runs)
    alarms, found, exact = 0, dict.fromkeys(SLOWDOWNS, 0), dict.fromkeys(SLOWDOWNS, 0)
    for _ in range(suites):
        if alternating:
            drawn = source.sample(range(count), 2 * per_side)
        else:
            start = source.randrange(count - 2 * per_side + 1)
            drawn = list(range(start, start + 2 * per_side))
        base, new = (_side(runs, half) for half in (drawn[:per_side], drawn[per_side:]))
        victim = source.choice(names)
        alarms += bool(rule(base, new))
        for factor in SLOWDOWNS:
            changed = {victim: [slower(s, factor) for s in new[victim]]} if victim in new else {}
            named = rule(base, {**new, **changed})
            found[factor] += victim in named
            exact[factor] += named == {victim}
    return Power(per_side, suites, alarms, found, exact)


def _side(runs: Side[S | None], drawn: Sequence[int]) -> dict[Key, list[S]]:
    """Return what the drawn runs say of each cell that they say something of."""
    side = {}
    for name, samples in runs.items():
        said = [sample for place in drawn if (sample := samples[place]) is not None]
        if said:
            side[name] = said
    return side


def regressed(base: Side[float], new: Side[float]) -> set[Key]:
    """Name what the gate, at its defaults, calls regressed, from logarithms of times."""
    cells, shifts = check.judge(base, new, check.Limits())
    if any(abs(shift) > check.MAX_SHIFT for shift in shifts.values()):
        return set()
    return {cell.key for cell in cells if cell.verdict == "regressed"}


def of_gate(
    runs: Side[float | None], per_side: int, suites: int = 200, slowed: Sequence[Key] = ()
) -> Power:
    """Examine the gate itself on logarithms of times; ValueError as of `examine`."""

    def slower(time: float, factor: float) -> float:
        return time + math.log(factor)

    return examine(runs, regressed, slower, per_side, suites, slowed)


def of_processes(device: str, runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> Power:
    """Examine the gate on what fresh processes say of each kernel.

    A process says ``min_s``, ``median_s`` and ``faults``, as `bench.measure.operations` prints it.
    Raises ValueError where there are too few of them.
    """
    column = "min_s" if device == "cpu" else "median_s"
    times: dict[Key, list[float | None]] = {}
    for place, run in enumerate(runs):
        for name, told in run.items():
            key = ("", "", device, "float32", name)
            samples = times.setdefault(key, [None] * len(runs))
            samples[place] = None if told["faults"] else math.log(told[column])
    return of_gate(times, FEWEST)
