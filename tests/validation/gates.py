"""False alarms and detection of this suite's gate and of its peers', on the same runs.

``python -m tests.validation.gates`` simulates the situations of `tests.validation.situations` and
prints how often each goes wrong; ``--quick`` takes a tenth of the trials. With a FILE that
`tests.validation.collection` wrote, it draws suites from its runs, and from a model of their noise,
and prints one table for each. ``--markdown`` is for the docs.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from bench.gate import power
from bench.gate.settings import Limits
from bench.records.schema import CellKey
from tests.validation import model, rules, situations
from tests.validation.collection import Runs, read

#: A cell is stable if nearly every process could time it, and two of three of those are within
#: this share of their middle: half of the smallest slowdown that is looked for.
MOSTLY, STABLE = 0.9, 0.025
#: Runs and cells that are drawn from the model: twice what a suite of eight a side needs.
MODELLED_RUNS, MODELLED_CELLS = 64, 40


def stable(runs: Runs) -> list[CellKey]:
    """Return the stable cells whose slowdowns exceed the floor of the gate."""
    found = []
    shortest = Limits().floor_s / (min(power.SLOWDOWNS) - 1)
    for key, samples in runs.items():
        usable = [sample for sample in samples if sample]
        long = [sample.min_s >= shortest for sample in usable]
        if len(usable) >= MOSTLY * len(samples) and all(long):
            noise = model.fit({key: list(usable)})
            # With a single cell, all noise counts as common noise.
            if noise.common <= STABLE:
                found.append(key)
    return found


def lines(
    runs: Runs,
    slowed: Sequence[CellKey],
    counts: Sequence[int],
    suites: int,
    alternating: bool = True,
    names: Sequence[str] = tuple(rules.RULES),
) -> list[list[str]]:
    """Return a line for each rule and number of runs a side: alarms and slowdowns found."""
    made = []
    for count in counts:
        for name in names:
            seen = power.examine(
                runs, rules.RULES[name], rules.slower, count, suites, slowed, alternating
            )
            shares = [seen.alarms, *seen.found.values(), seen.exact[1.10]]
            made.append([str(count), name, *(f"{share / suites:.1%}" for share in shares)])
    return made


def summary(noise: model.Noise) -> str:
    """Return the noise as one line of text, with the median over the cells."""
    return (
        f"a process {statistics.median(noise.process):.3f} in the middle of the cells, all of "
        f"a process {noise.common:.3f} (neighbours {noise.drift:.2f}), outliers in "
        f"{noise.outliers:.1%} by {noise.outlier:.2f}, rounds {noise.rounds:.3f} "
        f"(neighbours {noise.correlation:.2f})"
    )


HEADERS = ["runs a side", "rule", "false alarms", "+5 %", "+10 %", "+20 %", "+10 % and it alone"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.validation.gates", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.csv.gz")
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 5, 8], help="runs a side")
    parser.add_argument("--suites", type=int, default=500, help="suites drawn for each line")
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulated trials")
    parser.add_argument(
        "--first", type=int, default=situations.TABLE, help="first seed of the simulated trials"
    )
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    tablefmt = "github" if given.markdown else "simple"
    if given.file is None:
        headers = ["situation (trials)", "now", "wanted", "holds"]
        made = list(situations.table(given.quick, given.first))
        print(tabulate(made, headers, tablefmt, disable_numparse=True))
        sys.exit(any(line[-1] == "no" for line in made))
    try:
        every, quiet = read(given.file), read(given.file, busy=False)
    except (OSError, ValueError, KeyError) as problem:
        parser.error(
            f"{given.file}: {problem}; make one with python -m tests.validation.collection"
        )
    noise = model.fit(quiet)
    slowed = stable(quiet)
    print(
        f"{len(slowed)} of {len(quiet)} cells are stable; the noise, in logarithms: {summary(noise)}"
    )
    modelled = model.draw(noise, MODELLED_CELLS, MODELLED_RUNS, seed=1)
    for title, runs, cells, alternating in (
        ("Collected, on an idle machine, sides alternating", quiet, slowed, True),
        ("Collected, on an idle machine, one side after the other", quiet, slowed, False),
        ("Collected, with runs beside a busy process, alternating", every, slowed, True),
        ("Modelled, alternating", modelled, (), True),
        ("Modelled, one side after the other", modelled, (), False),
    ):
        print(f"\n{title}\n")
        table = lines(runs, cells, given.runs, given.suites, alternating)
        print(tabulate(table, HEADERS, tablefmt), flush=True)


if __name__ == "__main__":
    main()
