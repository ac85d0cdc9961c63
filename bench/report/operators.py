"""Where a model of the user spends its time: its operators on each device and in each dtype."""

from pathlib import Path

import pandas as pd

from bench.compare.pooled import pool
from bench.records import params
from bench.report import fit, units
from bench.report.run_end import following, lines
from bench.verdicts.named import OPERATOR

#: Operators that are listed; the last row sums up the others. Characters of their names in a line.
LISTED, NAME = 12, 32


def text(frame: pd.DataFrame) -> str:
    """Return a table of the operators of family `model`, the most expensive first.

    Each time is that of all its uses in one forward pass, with its share of the sum over all
    operators; of several runs, the median. The rows above are the passes as a whole. A time that is
    not settled is marked by `~`. Empty without such rows.
    """
    own = frame[(frame.family == OPERATOR.family) & frame.median_s.notna() & frame.ci_low_s.notna()]
    passes: dict[str, dict[str, float]] = {}
    times: dict[str, dict[str, float]] = {}
    unsure = set()
    for keys, rows in own.groupby(["device", "dtype", "benchmark", "params"], sort=False):
        device, dtype, benchmark, words = map(str, keys)
        known, column = params.split(words), f"{device} {dtype}"
        seconds = float(rows.median_s.median()) * int(known.get("uses", 1))
        name = f"{known['model']}: {benchmark.replace('_', ' + ')}"
        if of_operator := benchmark == OPERATOR.benchmark:
            uses = f" x{known['uses']}" if known["uses"] != "1" else ""
            name = f"{known['operator']} {known['shapes'].replace('_', ' ')}{uses}"
        (times if of_operator else passes).setdefault(column, {})[name] = seconds
        if (rows.status == "unstable").any():
            unsure.add((column, name))
    columns = list(dict.fromkeys([*passes, *times]))
    if not columns:
        return ""
    first = times.get(columns[0], {})
    names = dict.fromkeys(name for one in times.values() for name in one)
    order = sorted(names, key=lambda name: -first.get(name, 0))
    shown = list(dict.fromkeys(name for one in passes.values() for name in one)) + order[:LISTED]
    rest = f"{len(order) - LISTED} other operators"
    cells: dict[str, dict[fit.Name, str]] = {}
    for column in columns:
        here, total = times.get(column, {}), sum(times.get(column, {}).values())
        values = {n: units.seconds(s) for n, s in passes.get(column, {}).items()}
        values |= {n: f"{units.seconds(s)} {s / total:4.0%}" for n, s in here.items()}
        if left := sum(here.get(name, 0.0) for name in order[LISTED:]):
            values[rest] = f"{units.seconds(left)} {left / total:4.0%}"
        cells[column] = {
            (name, ""): f"~{value}" if (column, name) in unsure else value
            for name, value in values.items()
            if name in shown or name == rest
        }
    rows_ = [(name, "") for name in (*shown, *([rest] if len(order) > LISTED else []))]
    tables = fit.folded(rows_, cells, longest=NAME)
    head = "where a forward pass spends its time: uses x median, ~: not settled"
    return "\n\n".join([head, *tables])


def summary(frame: pd.DataFrame, path: Path) -> str:
    """Return what a run of a model shows at its end: the table, the outcome, what comes next."""
    found = fit.fill("\n".join(lines(pool(frame))))
    return "\n\n".join(filter(None, (text(frame), found, following(frame, path))))
