"""Two stages for the same cells: a screen finds suspects, and fresh runs judge them."""

import dataclasses
import math

import pandas as pd

from bench.compare import observations
from bench.compare.observations import Observations
from bench.gate import check, shift
from bench.gate.outcome import Outcome, failing_verdicts, ordered
from bench.gate.reason import reason
from bench.gate.settings import Limits
from bench.records.schema import FAULTLESS, CellKey
from bench.stats import moderated, ratios

#: Share of its threshold beyond which a change makes a cell a suspect.
SUSPICIOUS = 0.6


def suspects(
    baseline: pd.DataFrame, candidate: pd.DataFrame, limits: Limits, one_machine: bool = False
) -> set[CellKey]:
    """Return the cells that need more runs: they differ, or were unstable on a side.

    They differ by more than `SUSPICIOUS` of their threshold and by more than the floor. Cells that
    a side lacks or could never time are no suspects, because more runs do not help. Nor are faults
    of the candidate, which are known already.
    """
    old, new = Observations.of(baseline), Observations.of(candidate)
    pairs = moderated.pairs(old.times, new.times, fewest=1)
    if not one_machine:
        pairs, _ = shift.shifted(pairs, known=check.measured(baseline, candidate))
    found = set()
    for pair in pairs:
        apart = abs(pair.difference)
        seconds = ratios.relative(apart) * math.exp(pair.level)
        if apart > math.log1p(SUSPICIOUS * limits.of(pair.key)[0]) and seconds > limits.floor_s:
            found.add(pair.key)
    for key in old.statuses.keys() & new.statuses.keys():
        both = (old.statuses[key].keys(), new.statuses[key].keys())
        if (
            any("unstable" in statuses for statuses in both)
            and all(FAULTLESS & statuses for statuses in both)
            and min(old.count(key), new.count(key)) < observations.FEWEST_TIMES
        ):
            found.add(key)
    return found - observations.broken(old, new).keys()


def settle(
    screened: Outcome,
    confirmed: Outcome | None,
    suspected: set[CellKey],
    allow_missing: bool = False,
    fail_on_improvement: bool = False,
) -> Outcome:
    """Merge both stages: the fresh runs alone judge the suspects.

    Other cells that are inconclusive become `same` if both sides have a time of them.
    """
    fresh = confirmed.cells if confirmed else []
    again = {cell.key: cell for cell in fresh if cell.key in suspected}
    cells = [again.pop(cell.key, cell) for cell in screened.cells]
    cells = [
        dataclasses.replace(cell, verdict="same", reason=reason("cleared"))
        if cell.verdict == "inconclusive" and cell.change is not None and cell.key not in suspected
        else cell
        for cell in cells
    ]
    cells += again.values()
    baseline, candidate = screened.runs
    counts = {"cells": len(screened.cells), "baseline": baseline, "candidate": candidate}
    notes = [reason("screened", **counts), *screened.notes]
    failing, runs, shifts = screened.failing, screened.runs, screened.shifts
    if confirmed:
        failing, runs, shifts = failing | confirmed.failing, confirmed.runs, confirmed.shifts
        counts = {"cells": len(suspected), "baseline": runs[0], "candidate": runs[1]}
        notes.insert(1, reason("confirmed", **counts))
        notes += [note for note in confirmed.notes if note not in notes]
    failing = failing_verdicts(
        "incomparable" not in failing,
        runs,
        allow_missing,
        fail_on_improvement,
        wrong="errored" in failing,
    )
    return Outcome(ordered(cells), shifts, runs, notes, failing, screened.min_judged)
