"""Cells whose processes run in two states, and whether they explain a change."""

import math
from collections.abc import Sequence

from bench.gate.reason import Reason, reason
from bench.records.schema import CellKey
from bench.stats import levels
from bench.stats.moderated import Pair

#: Fewest runs per side that are judged; with fewer all is advice.
FEWEST_RUNS = 3
#: Largest chance that the cells in two states of a suite, seen as they are, look like a change.
BY_STATES = 0.04


class States:
    """The cells of a suite whose processes run in two states."""

    def __init__(self, found: Sequence[Pair]) -> None:
        self.pairs = {pair.key: pair for pair in found}
        seen = {pair.key: levels.find(pair.base, _unshifted(pair)) for pair in found}
        self.of = {key: one for key, one in seen.items() if one}
        self.weights = {
            pair.key: levels.weight(self.of[pair.key], len(pair.base), len(pair.new))
            for pair in found
            if pair.key in self.of
        }

    def explain(self, key: CellKey) -> Reason | None:
        """Return why chance may have put the runs of a cell on two levels, None if it has not.

        The more cells have two levels that are at least half as far apart as the sides of this one,
        the likelier is chance. A run on the level of the other side makes it likelier too. With
        fewer than three runs per side, every change is only advice.
        """
        pair = self.pairs[key]
        if min(len(pair.base), len(pair.new)) < FEWEST_RUNS:
            return None
        size = abs(pair.difference)
        alike = sum(
            weight
            for key, weight in self.weights.items()
            if key != pair.key and self.of[key].gap >= size / 2
        )
        middle = pair.level + pair.difference / 2
        sign = math.copysign(1.0, pair.difference)
        astray = sum(sign * (y - middle) > 0 for y in pair.base)
        astray += sum(sign * (y - middle) < 0 for y in _unshifted(pair))
        likely = (1 + alike) * levels.chance(len(pair.base), len(pair.new), astray)
        if likely <= BY_STATES:
            return None
        runs = max(levels.runs_needed(1 + alike, BY_STATES), len(pair.new) + 1)
        if own := self.of.get(pair.key):
            both = {"low_s": math.exp(own.low), "high_s": math.exp(own.high)}
            return reason("two states", runs=runs, **both)
        return reason("states of others", cells=round(alike), runs=runs)


def _unshifted(pair: Pair) -> tuple[float, ...]:
    return tuple(y - pair.shift for y in pair.new)
