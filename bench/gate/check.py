"""The regression gate: which cells are slower than before, beyond the noise between runs.

Runs are the replicates. A cell has regressed if four conditions hold. A one-sided t test of trimmed
means rejects "at most `margin` slower" after Holm's correction over all judged cells; its variance
borrows from the other cells (see `stats.moderated`, `stats.multiplicity`). The change exceeds the
threshold. It exceeds an absolute floor. Processes in two states, as the cells show them, do not
explain it (see `stats.levels`).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from bench.compare import observations
from bench.compare.cells import grouped
from bench.compare.observations import Observations
from bench.gate import comparable, shift
from bench.gate.outcome import Judged, Outcome, failing_verdicts, ordered
from bench.gate.reason import Reason, reason
from bench.gate.settings import KNOWN_RUNS, Limits
from bench.gate.shift import Place, Shift
from bench.gate.states import FEWEST_RUNS, States
from bench.records import schema
from bench.records.schema import CellKey
from bench.stats import moderated, multiplicity, ratios
from bench.stats.moderated import Pair, Times

#: Largest shift of the cells that is removed if no reference kernel shows whether it is the
#: machine's; beyond it the sides are incomparable.
MAX_SHIFT = math.log(1.05)


def _judge(
    pair: Pair,
    slower: float,
    faster: float,
    known: bool,
    limits: Limits,
    states: States,
    everything: bool,
) -> Judged:
    """Give the verdict of a cell from its corrected p-values; `known` is that of `Limits.of`."""
    threshold, _ = limits.of(pair.key, known)
    difference, half = pair.difference, pair.half()
    change, low, high = (ratios.relative(difference + off) for off in (0, -half, half))
    base, bound = math.exp(pair.level), math.log1p(threshold)
    far = abs(difference) > bound and abs(change) * base > limits.floor_s
    verdict, why = "", None
    if far and difference > 0 and (slower < limits.alpha or everything):
        verdict = "regressed"
    elif far and difference < 0 and faster < limits.alpha and pair.moved < -bound:
        verdict = "improved"
    if verdict and not everything and (why := states.explain(pair.key)):
        verdict = "inconclusive"
    if not verdict and high > threshold:
        if high * base > limits.floor_s:
            verdict = "inconclusive"
            needed = pair.runs_needed(threshold)
            why = reason("undecided", change=high, runs=needed)
            if needed is None:
                why = reason("sessions", change=high, spread=pair.error)
        else:
            verdict, why = "negligible", reason("floor", change=high, floor_s=limits.floor_s)
    p = slower if difference > 0 else faster
    return Judged(pair.key, verdict or "same", change, low, high, p, why)


def _known(pair: Pair, sessions: bool, limits: Limits) -> bool:
    """Return whether the noise of a cell is known and allows the lower threshold.

    Runs of one other session do not show by how much a cell differs between sessions.
    """
    enough = not sessions and min(len(pair.base), len(pair.new)) >= KNOWN_RUNS
    return pair.sessions or (enough and pair.half() <= math.log1p(limits.known[0]))


def judge(
    base: Times,
    new: Times,
    limits: Limits,
    one_machine: bool = False,
    controls: Collection[CellKey] | None = None,
    tests: int = 0,
    known: Mapping[str, Shift] | None = None,
    sessions: bool = False,
    past: Sequence[Times] = (),
) -> tuple[list[Judged], dict[Place, Shift], dict[Place, float]]:
    """Judge the cells that both sides have.

    No shift is removed, and no difference between sessions is expected, if the sides alternated on
    `one_machine`: a change of everything is then an effect of the sides. `controls` and `known` are
    those of `shift.shifted`; `sessions` says that no session has runs of both sides, and `past` has
    those of the base: from `moderated.FEWEST_SESSIONS` on, they show what each cell differs between
    sessions. `tests` is the
    number of cells that these were picked from, if both stages share runs. Returns also the shifts
    that were removed, and the slowdowns of whole places that are not the machine's.
    """
    pairs = moderated.pairs(base, new)
    shifts: dict[Place, Shift] = {}
    if not one_machine:
        pairs, shifts = shift.shifted(pairs, controls, known)
    pairs = moderated.moderated(pairs)
    margin = math.log1p(limits.margin)
    slowdowns = {}
    for place, group in grouped(pairs, lambda pair: pair.key.place).items():
        if one_machine or (place in shifts and shifts[place].measured):
            moved = shift.everything(group, math.log1p(limits.threshold), margin)
            if moved is not None:
                slowdowns[place] = moved
    states = States(pairs)
    if not one_machine and len(past) >= moderated.FEWEST_SESSIONS:
        pairs = moderated.by_session(pairs, past)
    elif not one_machine:
        steady = [pair for pair in pairs if pair.key.place not in slowdowns]
        apart = moderated.between(steady, expected=sessions)
        pairs = [replace(pair, between=pair.between + apart) for pair in pairs]
    sharp = [_known(pair, sessions, limits) for pair in pairs]
    margins = [math.log1p(limits.of(p.key, k)[1]) for p, k in zip(pairs, sharp, strict=True)]
    slower, faster = (
        multiplicity.holm([p.p_above(m, sign) for p, m in zip(pairs, margins, strict=True)], tests)
        for sign in (1, -1)
    )
    cells = [
        _judge(*each, limits, states, each[0].key.place in slowdowns)
        for each in zip(pairs, slower.tolist(), faster.tolist(), sharp, strict=True)
    ]
    return cells, shifts, slowdowns


def _single_calls(*sides: pd.DataFrame) -> int:
    """Return how many cells were timed by a single call, as in the profile smoke."""
    cells = [side.loc[schema.single_call(side), list(schema.CELL)] for side in sides]
    return len(pd.concat(cells).drop_duplicates())


def check(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    limits: Limits | None = None,
    vary: Sequence[str] = (),
    one_machine: bool = False,
    allow_missing: bool = False,
    fail_on_improvement: bool = False,
    controls: Collection[CellKey] | None = None,
    tests: int = 0,
    same_machine: bool = False,
) -> Outcome:
    """Judge each cell of `candidate` against `baseline`.

    A cell fails if it has regressed or errored, is missing (unless `allow_missing`), or has
    improved (if `fail_on_improvement`); with fewer than three runs per side all is advice, except
    wrong answers. A cell
    of the baseline is `missing` if the candidate has no row of it, unless the baseline's backend
    refused it; a cell is `new` if the baseline has no row of it. `controls` and `tests` are those
    of `judge`. With `same_machine` the user vouches for hardware that the files do not name.
    """
    limits = limits or Limits()
    hard, soft = comparable.environment(baseline, candidate, vary, same_machine)
    runs = (baseline.run_id.nunique(), candidate.run_id.nunique())
    old, new = Observations.of(baseline), Observations.of(candidate)
    broken = observations.broken(old, new)
    sound = {key: times for key, times in new.times.items() if key not in broken}
    known = measured(baseline, candidate)
    cells, shifts, slowdowns = judge(
        *(old.times, sound, limits, one_machine, controls, tests, known),
        *observations.sessions_of(baseline, candidate),
    )
    for (device, dtype), moved in slowdowns.items():
        change = ratios.relative(moved)
        soft.insert(0, reason("everything", device=device, dtype=dtype, change=change))
    for (device, dtype), (value, _, seen) in shifts.items():
        if abs(value) > MAX_SHIFT and not seen:
            hard.append(reason("moved", device=device, dtype=dtype, change=ratios.relative(value)))
    if not one_machine:
        improved = hard if fail_on_improvement else soft
        for verdict, notes in (("regressed", hard), ("improved", improved)):
            own = [c for c in cells if c.verdict == verdict and c.key.place not in slowdowns]
            changed = [(cell.key, cell.change) for cell in own if cell.change]
            notes += comparable.moved_together(changed, [cell.key for cell in cells])
    cells += [
        Judged(key, "errored", reason=reason("status", seen=new.statuses[key][fault]))
        for key, fault in broken.items()
    ]
    done = {cell.key for cell in cells}
    rest = [
        _unjudged(k, old, new, shifts) for k in {**old.statuses, **new.statuses} if k not in done
    ]
    if hard:
        cells = [
            cell if cell.verdict == "errored" else Judged(cell.key, "incomparable", cell.change)
            for cell in cells
        ]
        rest = [
            replace(cell, verdict="incomparable") if cell.verdict == "inconclusive" else cell
            for cell in rest
        ]
    cells += rest
    if single := _single_calls(baseline, candidate):
        soft.append(reason("single calls", cells=single))
    if not hard and min(runs) < FEWEST_RUNS:
        soft.append(reason("few runs", baseline=runs[0], candidate=runs[1], fewest=FEWEST_RUNS))
    wrong = "wrong" in broken.values()
    failing = failing_verdicts(not hard, runs, allow_missing, fail_on_improvement, wrong)
    return Outcome(ordered(cells), shifts, runs, hard + soft, failing, limits.min_judged)


def measured(baseline: pd.DataFrame, candidate: pd.DataFrame) -> dict[str, Shift]:
    """Return the shift that the reference kernels show, by device; none if they may differ.

    Hashing takes another time in another Python.
    """
    if set(baseline.python) != set(candidate.python):
        return {}
    found = shift.measured(observations.kernel(baseline), observations.kernel(candidate))
    return {"cpu": found} if found else {}


def _unjudged(
    key: CellKey, old: Observations, new: Observations, shifts: Mapping[Place, Shift]
) -> Judged:
    """Return the verdict and reason of a cell whose times could not be compared."""
    if key not in old.statuses:
        seen = None if new.count(key) else new.flaw(key)
        return Judged(key, "new", reason=reason("status", seen=seen) if seen else None)
    refused = old.faulty(key) and "unsupported" in old.statuses[key]
    if key not in new.statuses:
        if refused:
            why = reason("gone and refused", seen=old.statuses[key]["unsupported"])
            return Judged(key, "inconclusive", reason=why)
        return Judged(key, "missing", reason=reason("gone"))
    if refused and new.statuses[key].keys() == old.statuses[key].keys():
        why = reason("status of both", seen=new.statuses[key]["unsupported"])
        return Judged(key, "same", reason=why)
    change = None
    if old.count(key) and new.count(key):
        pair = Pair(key, tuple(old.times[key]), tuple(new.times[key]))
        change = ratios.relative(pair.moved - shifts.get(key.place, Shift(0.0)).value)
    return Judged(key, "inconclusive", change, reason=_untimed(key, old, new))


def _untimed(key: CellKey, old: Observations, new: Observations) -> Reason:
    """Return why the times of a cell that both sides have could not be compared."""
    alike = old.statuses[key].keys() == new.statuses[key].keys()
    for side, code in (
        (new, "status of both" if alike else "status"),
        (old, "status of baseline"),
    ):
        if side.count(key) < observations.FEWEST_TIMES and (seen := side.flaw(key)):
            return reason(code, seen=seen)
    return reason("few times")
