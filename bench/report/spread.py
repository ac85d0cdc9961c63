"""The spread of a crowd of machines: for a terminal, in Markdown, for a program, as a page."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence

from tabulate import tabulate

from bench.compare import outliers, spread
from bench.compare.spread import Spread
from bench.records import schema
from bench.records.many import Many
from bench.report import escape, html, units
from bench.report import outliers as outliers_report

HEADERS = ("cell", "machines", "10 %", "median", "90 %", "fastest", "slowest")


def _row(one: Spread, as_text: Callable[[str], str]) -> list[str]:
    _, benchmark, device, dtype, params = one.key
    name = " ".join(filter(None, (benchmark, device, dtype, params.replace(";", " "))))
    machines = f"{one.machines:,}" + (f" of {one.machines + one.without:,}" if one.without else "")
    times = [units.seconds(seconds) for seconds in (one.low, one.median, one.high)]
    ends = [
        as_text(f"{machine} {seconds / one.median:.2f}x")
        for machine, seconds in (one.fastest, one.slowest)
    ]
    return [as_text(name), machines, *times, *ends]


def heading(rows: Many) -> str:
    """Return how many machines, runs and cells there are."""
    machines, runs = rows.runs.machine.nunique(), rows.runs.run_id.nunique()
    return f"{machines:,} machines, {runs:,} runs, {len(rows.cell):,} rows"


def text(rows: Many, found: Sequence[Spread]) -> str:
    """Return it for a terminal."""
    table = tabulate([_row(one, str) for one in found], HEADERS, disable_numparse=True)
    return f"{heading(rows)}\n\n{table}"


def markdown(rows: Many, found: Sequence[Spread]) -> str:
    """Return it as GitHub's Markdown."""
    cells = [_row(one, escape.markdown) for one in found]
    table = tabulate(cells, HEADERS, "github", disable_numparse=True)
    return f"{heading(rows)}\n\n{table}"


def as_json(rows: Many, found: Sequence[Spread]) -> str:
    """Return it as a JSON list of cells."""
    cells = [dataclasses.asdict(one) for one in found]
    for cell in cells:
        cell |= dict(zip(schema.CELL, cell.pop("key"), strict=True))
    return json.dumps(cells, indent=1)


def as_csv(rows: Many, found: Sequence[Spread]) -> str:
    """Return it for a spreadsheet."""
    made = io.StringIO()
    writer = csv.writer(made)
    ends = ("fastest", "fastest_s", "slowest", "slowest_s")
    writer.writerow([*schema.CELL, "machines", "without", "low_s", "median_s", "high_s", *ends])
    for one in found:
        times = (one.low, one.median, one.high)
        values = (*one.key, one.machines, one.without, *times, *one.fastest, *one.slowest)
        harmless = [escape.no_formula(v) if isinstance(v, str) else v for v in values]
        writer.writerow(harmless)
    return made.getvalue().rstrip("\r\n")


FORMATS: dict[str, Callable[[Many, Sequence[Spread]], str]] = {
    "terminal": text,
    "markdown": markdown,
    "csv": as_csv,
    "json": as_json,
}


def page(rows: Many) -> str:
    """Return one page: which machines are off, and how far all lie apart at each cell."""
    lines = []
    for one in spread.of(rows):
        name = [html.Entry(text.replace(";", " ")) for text in one.key]
        times = [
            html.Entry(units.seconds(seconds), seconds, "number")
            for seconds in (one.low, one.median, one.high)
        ]
        ends = [
            html.Entry(f"{machine} {seconds / one.median:.2f}x", seconds / one.median, "number")
            for machine, seconds in (one.fastest, one.slowest)
        ]
        counts = [html.Entry(f"{n:,}", n, "number") for n in (one.machines, one.without)]
        lines.append([*name, *counts, *times, *ends])
    columns = [(name, "") for name in schema.CELL]
    columns += [(name, "number") for name in ("machines", "without a time", *HEADERS[2:])]
    advice = [
        ("", line.removeprefix("- "))
        for line in outliers_report.text(outliers.find(rows)).splitlines()
    ]
    machines = f"{rows.runs.machine.nunique():,} machines"
    part = {"machine": machines, "advice": advice, "facts": [], "pictures": []} | {
        "environment": spread.environment(rows)
    }
    shown = "percentiles of the machines' medians"
    return html.render([machines], f"{heading(rows)}; {shown}.", [part], columns, lines)
