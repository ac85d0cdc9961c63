"""The history of cells, for a terminal, in Markdown or for a program."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from tabulate import tabulate

from bench.gate.history import Series
from bench.report import data, escape, fit, units
from bench.stats.changepoints import FEWEST, SESSIONS

#: The number of runs that a line of bars shows, the last ones.
_SHOWN = 30


def bars(seconds: Sequence[float]) -> str:
    """Return the last times as bars, on a log scale from the smallest to the largest.

    The scale spans at least a factor of 1.25, so that noise stays small.
    """
    logs = [math.log(value) for value in seconds[-_SHOWN:]]
    low, span = min(logs), max(max(logs) - min(logs), math.log(1.25))
    return "".join(fit.BARS[round((value - low) / span * (len(fit.BARS) - 1))] for value in logs)


def _row(one: Series) -> list[str]:
    changes = "; ".join(
        f"{change.started}: {change.change:+.0%}"
        + (f" ({', '.join(change.causes)})" if change.causes else "")
        for change in one.changes
    )
    cell = ": ".join(filter(None, (one.key.label, changes)))
    return [bars(one.seconds), units.seconds(one.seconds[-1]), cell]


def _report(found: Sequence[Series], every: bool, markdown: bool) -> str:
    """Return a part for each machine: what changed, the latest change first, or every cell."""
    parts = []
    for place in dict.fromkeys((one.machine, one.threads) for one in found):
        here = [one for one in found if (one.machine, one.threads) == place]
        changed = [one for one in here if one.changes]
        changed.sort(key=lambda one: one.changes[-1].started, reverse=True)
        runs = sorted({start for one in here for start in one.started})
        threads = units.count(int(place[1]), "thread") if place[1] else ""
        machine = ", ".join(filter(None, (place[0], threads)))
        counts = f"{units.count(len(here), 'cell')} in {units.count(len(runs), 'run')}"
        span = f" to {runs[-1]}" if len(runs) > 1 else ""
        title = f"{machine}: {counts} from {runs[0]}{span}"
        few = (
            f"; a change needs {2 * FEWEST} runs in {2 * SESSIONS} sessions"
            if len(runs) < 2 * FEWEST
            else ""
        )
        title += f", {len(changed)} changed{few}"
        parts.append(f"### {escape.markdown(title)}" if markdown else fit.fill(title))
        if rows := [_row(one) for one in (here if every else changed)]:
            headers = ("times", "now", "cell and changes")
            if markdown:
                escaped = [[*row[:2], escape.markdown(row[2])] for row in rows]
                parts.append(tabulate(escaped, headers, "github", disable_numparse=True))
            else:
                parts.append(fit.table(headers, rows, right="1"))
    return "\n\n".join(parts)


def as_json(found: Sequence[Series], every: bool) -> str:
    """Return it as a JSON list of series."""
    shown = [dataclasses.asdict(one) for one in found if every or one.changes]
    return data.dumps(shown)


FORMATS: dict[str, Callable[[Sequence[Series], bool], str]] = {
    "terminal": functools.partial(_report, markdown=False),
    "markdown": functools.partial(_report, markdown=True),
    "json": as_json,
}
