"""Two looks at the same cells: a screen that clears most, and fresh runs of what it suspects."""

import dataclasses
import math

import pandas as pd

from bench.compare import observations
from bench.compare.observations import Told
from bench.gate import check, shift
from bench.gate.check import Limits, Outcome
from bench.gate.reason import reason
from bench.stats import moderated, ratios
from bench.stats.moderated import Key

#: Share of a threshold beyond which a screen passes a cell on.
SUSPICIOUS = 0.6


def suspects(
    baseline: pd.DataFrame, candidate: pd.DataFrame, limits: Limits, one_machine: bool = False
) -> set[Key]:
    """Return the cells that a first look cannot clear: they differ, or hardly could be timed.

    They differ by more than `SUSPICIOUS` of their threshold and could be beyond the floor, or were
    unstable on a side. What a side lacks, or never could time, no further look brings; and what
    went wrong in the candidate is known already.
    """
    old, new = Told.of(baseline), Told.of(candidate)
    pairs = moderated.pairs(old.times, new.times, fewest=1)
    if not one_machine:
        pairs, _ = shift.shifted(pairs)
    found = set()
    for pair in pairs:
        apart = abs(pair.difference)
        seconds = ratios.relative(apart) * math.exp(pair.level)
        if apart > math.log1p(SUSPICIOUS * limits.of(pair.key)) and seconds > limits.floor_s:
            found.add(pair.key)
    for key in old.said.keys() & new.said.keys():
        said = (old.said[key].keys(), new.said[key].keys())
        if (
            any("unstable" in statuses for statuses in said)
            and all(observations.FAULTLESS & statuses for statuses in said)
            and min(old.count(key), new.count(key)) < observations.FEWEST_TIMES
        ):
            found.add(key)
    return found - observations.broken(old, new).keys()


def settle(
    screened: Outcome,
    confirmed: Outcome | None,
    suspected: set[Key],
    allow_missing: bool = False,
    fail_on_improvement: bool = False,
) -> Outcome:
    """Put both looks together: what was suspected is judged by the second alone.

    What was not is cleared where it is inconclusive, but only if both sides have a time of it.
    """
    seen = confirmed.cells if confirmed else []
    again = {cell.key: cell for cell in seen if cell.key in suspected}
    cells = [again.pop(cell.key, cell) for cell in screened.cells]
    cells = [
        dataclasses.replace(cell, verdict="same", reason=reason("cleared"))
        if cell.verdict == "inconclusive" and cell.change is not None and cell.key not in suspected
        else cell
        for cell in cells
    ]
    cells += again.values()
    baseline, candidate = screened.runs
    looked = {"cells": len(screened.cells), "baseline": baseline, "candidate": candidate}
    notes = [reason("screened", **looked), *screened.notes]
    failing, runs, shifts = screened.failing, screened.runs, screened.shifts
    if confirmed:
        failing, runs, shifts = failing | confirmed.failing, confirmed.runs, confirmed.shifts
        looked = {"cells": len(suspected), "baseline": runs[0], "candidate": runs[1]}
        notes.insert(1, reason("confirmed", **looked))
        notes += [note for note in confirmed.notes if note not in notes]
    failing = check.failing_verdicts(
        "incomparable" not in failing, runs, allow_missing, fail_on_improvement
    )
    return Outcome(check.ordered(cells), shifts, runs, notes, failing)
