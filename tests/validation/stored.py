"""Test the gate on stored runs of unchanged code: its false alarms, and the slowdowns it finds.

``python -m tests.validation.stored SESSION [SESSION]`` reads folders of result CSVs, each from one
session of fresh processes on an idle machine. The runs of a suite are drawn at random from one
session, and with two sessions also one side from each, as with a stored baseline. Unlike
`tests.validation.gates`, whole files go through `bench check`, with its controls and sessions.
"""

import argparse
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from bench.compare import files
from bench.gate import check
from bench.gate.power import SLOWDOWNS
from bench.records import schema
from bench.records.schema import CellKey

TIMES = ("min_s", "q1_s", "median_s", "q3_s", "max_s", "mean_s", "ci_low_s", "ci_high_s")


def suites(
    sessions: Sequence[pd.DataFrame], count: int, per_side: int, source: random.Random
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield baselines and candidates of so many runs: of one session, or each of its own."""
    runs = [sorted(session.run_id.unique()) for session in sessions]
    for _ in range(count):
        drawn = [source.sample(ids, len(ids)) for ids in runs]
        base, new = (
            (drawn[0][:per_side], drawn[0][per_side : 2 * per_side])
            if len(drawn) == 1
            else (side[:per_side] for side in drawn)
        )
        yield (
            sessions[0][sessions[0].run_id.isin(base)],
            sessions[-1][sessions[-1].run_id.isin(new)],
        )


def failing(base: pd.DataFrame, new: pd.DataFrame) -> set[CellKey]:
    """Return the cells for which the gate fails."""
    outcome = check.check(base, new)
    return {cell.key for cell in outcome.cells if cell.verdict in outcome.failing}


def slowed(frame: pd.DataFrame, cell: CellKey, factor: float) -> pd.DataFrame:
    """Return the rows with a cell that takes `factor` times as long."""
    chosen = [key == cell for key in schema.cell_keys(frame)]
    changed = frame.copy()
    for column in TIMES:
        changed.loc[chosen, column] = changed.loc[chosen, column] * factor
    return changed


def line(
    name: str, sessions: Sequence[pd.DataFrame], per_side: int, count: int, seed: int = 1
) -> list[str]:
    """Return a line of the table: the shares of suites with an alarm, and with each slowdown."""
    source = random.Random(seed)
    alarms, found = 0, dict.fromkeys(SLOWDOWNS, 0)
    for base, new in suites(sessions, count, per_side, source):
        timed = [cell.key for cell in check.check(base, new).cells if cell.verdict == "same"]
        alarms += bool(failing(base, new))
        victim = source.choice(timed or list(schema.cell_keys(new)))
        for factor in SLOWDOWNS:
            found[factor] += victim in failing(base, slowed(new, victim, factor))
    return [name, str(per_side), *(f"{n / count:.1%}" for n in (alarms, *found.values()))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.validation.stored",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sessions", nargs="+", type=Path, metavar="SESSION")
    parser.add_argument("--suites", type=int, default=100)
    given = parser.parse_args()
    read = [files.read([str(folder)]) for folder in given.sessions]
    lines = []
    for per_side in (3, 5):
        for number, session in enumerate(read, 1):
            if session.run_id.nunique() >= 2 * per_side:
                lines.append(line(f"session {number}", [session], per_side, given.suites))
        for (a, one), (b, two) in itertools.permutations(enumerate(read, 1), 2):
            if min(one.run_id.nunique(), two.run_id.nunique()) >= per_side:
                lines.append(line(f"session {a}, then {b}", [one, two], per_side, given.suites))
    headers = ["runs from", "per side", "false alarms", *(f"+{f - 1:.0%} found" for f in SLOWDOWNS)]
    print(tabulate(lines, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
