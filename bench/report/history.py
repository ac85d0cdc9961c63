"""The history of cells, for a terminal, in Markdown or for a program."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

from tabulate import tabulate

from bench.gate.history import Series
from bench.report import escape, units

_BARS = "▁▂▃▄▅▆▇█"
#: Runs that a line of bars shows, the last ones.
_SHOWN = 30


def bars(seconds: Sequence[float]) -> str:
    """Return the last times as bars, on a log scale from the smallest to the largest.

    The scale spans a factor of 1.25 at the least, so that noise stays small.
    """
    logs = [math.log(value) for value in seconds[-_SHOWN:]]
    low, span = min(logs), max(max(logs) - min(logs), math.log(1.25))
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in logs)


def _rows(found: Sequence[Series], as_text: Callable[[str], str]) -> list[list[str]]:
    rows = []
    for one in found:
        _, benchmark, device, dtype, params = one.key
        name = " ".join(filter(None, (benchmark, device, dtype, params.replace(";", " "))))
        said = "; ".join(
            f"{change.started}: {change.change:+.0%}"
            + (f" ({', '.join(change.causes)})" if change.causes else "")
            for change in one.changes
        )
        last = units.seconds(one.seconds[-1])
        rows.append([as_text(name), bars(one.seconds), last, as_text(said)])
    return rows


def _report(
    found: Sequence[Series], every: bool, heading: str, tablefmt: str, as_text: Callable[[str], str]
) -> str:
    """Return a part for each machine: what changed, the latest change first, or every cell."""
    parts = []
    for machine, threads in dict.fromkeys((one.machine, one.threads) for one in found):
        of_machine = [o for o in found if (o.machine, o.threads) == (machine, threads)]
        changed = [one for one in of_machine if one.changes]
        changed.sort(key=lambda one: one.changes[-1].started, reverse=True)
        runs = sorted({start for one in of_machine for start in one.started})
        where = machine + (f", {threads} threads" if threads else "")
        said = f"{where}: {len(of_machine)} cells in {len(runs)} runs from "
        said += f"{runs[0]} to {runs[-1]}, {len(changed)} changed"
        parts.append(f"{heading}{as_text(said)}")
        shown = of_machine if every else changed
        if shown:
            headers = ("cell", "times", "now", "changes")
            table = tabulate(_rows(shown, as_text), headers, tablefmt, disable_numparse=True)
            parts.append(table)
    return "\n\n".join(parts)


def text(found: Sequence[Series], every: bool) -> str:
    """Return it for a terminal."""
    return _report(found, every, "", "simple", str)


def markdown(found: Sequence[Series], every: bool) -> str:
    """Return it as GitHub's Markdown."""
    return _report(found, every, "### ", "github", escape.markdown)


def as_json(found: Sequence[Series], every: bool) -> str:
    """Return it as a JSON list of series."""
    shown = [dataclasses.asdict(one) for one in found if every or one.changes]
    return json.dumps(shown, indent=1)


FORMATS: dict[str, Callable[[Sequence[Series], bool], str]] = {
    "terminal": text,
    "markdown": markdown,
    "json": as_json,
}
