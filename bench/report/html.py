"""One self-contained HTML file: answers, pictures, tables to sort, filter and save, environment."""

import base64
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd

from bench.compare import cells as cell_index
from bench.compare import estimates, files, outliers, sides
from bench.compare.estimates import Estimate
from bench.compare.sides import ENVIRONMENT, WIDE
from bench.records import params, schema
from bench.report import answers, bars, comparison, details, group_means, plots, units
from bench.report import outliers as outliers_report
from bench.report.phrases import cut
from bench.report.picture import Picture, named
from bench.stats.ratios import Ratio
from bench.verdicts.answers import basis

#: The most rows of a table, for the sake of the browser; the CSV has all of them.
MAX_ROWS = 5_000
#: The most machines or settings with pictures, to keep the file small.
MAX_PICTURED = 3


@dataclass(frozen=True)
class Entry:
    """A cell of a table: its text, a second line, the number to sort it by, its class."""

    text: str
    key: float | str | None = None
    kind: str = ""
    second: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its rows with their anchors, each a list of titles and entries."""

    name: str
    rows: list[tuple[str, list[tuple[str, Entry]]]]


def _number(value: float | None, write: Callable[[float], str]) -> Entry:
    """Return a number; without a value it is blank, and sorts last."""
    if value is None:
        return Entry("", "", "number")
    # The name in JavaScript.
    return Entry(write(value), "Infinity" if math.isinf(value) else f"{value:.8g}", "number")


def _name(benchmark: str, given: str) -> Entry:
    return Entry(benchmark, kind="name", second=given.replace(";", " "))


def _time(estimate: Estimate) -> list[Entry]:
    """Return the time of a cell, and half of its interval."""
    time, half = estimate.seconds, None
    if time and estimate.low is not None and estimate.high is not None:
        half = (estimate.high - estimate.low) / 2 / time
    return [_number(time, units.seconds), _number(half, "{:.1%}".format)]


def _cells(frame: pd.DataFrame) -> tuple[Table, int]:
    """Return the table of all cells, those alike beside each other, and the number of them."""
    frame = frame.assign(threads=files.texts(frame.threads))
    between = [name for name in ("machine", "torch", "threads") if frame[name].nunique() > 1]
    names = [*schema.CELL, *between]
    found = estimates.by_group(frame, names, [])
    place = frame.groupby(["family", "benchmark"], sort=False).ngroup()
    cells = frame.assign(place=place).drop_duplicates(names, keep="last")
    known: Any = cells.astype(object).where(cells.notna(), None).itertuples(index=False)
    last = sorted(
        known, key=lambda one: (one.place, params.natural(one.params), one.device, one.dtype)
    )[:MAX_ROWS]
    peaks = any(one.peak_bytes is not None for one in last)
    rows = []
    for one in last:
        key = tuple(getattr(one, name) for name in names)
        estimate = found[key, ()]
        seconds = estimate.seconds
        rate = one.items / seconds if seconds and one.items is not None else None
        # The reason of an `ok` row is a note, for example that the data were made up.
        reason = estimate.reason or (one.reason if one.status == "ok" else "")
        row = [
            ("benchmark", _name(one.benchmark, one.params)),
            ("dtype", Entry(one.dtype)),
            *zip(("median", "±"), _time(estimate), strict=True),
            ("device", Entry(one.device)),
            *((name, Entry(getattr(one, name))) for name in between),
            ("status", Entry(estimate.status)),
            ("reason", Entry(cut(reason), kind="reason")),
            ("items/s", _number(rate, "{:,.0f}".format)),
            ("error", _number(one.rel_error, lambda error: f"{error:.1e}" if error else "0")),
        ]
        if peaks:
            row.append(("peak memory", _number(one.peak_bytes, units.size)))
        row.append(("family", Entry(one.family)))
        row.append(("last run", Entry(details.line(one), kind="details")))
        rows.append(("/".join(key).replace(" ", "_"), row))
    return Table("cells", rows), len(cells)


def _change(ratio: Ratio | None) -> Entry:
    """Return a ratio to the baseline with its interval; marked if no difference was seen."""
    if ratio is None:
        return _number(None, str)
    text = units.interval(ratio)
    return _number(ratio.value, lambda _: text if ratio.significant else f"~ {text}")


def _compared(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return what the sides of several files are compared by: means of groups, and each cell."""
    by = sides.choose(frame)
    if by in (("device",), ("dtype",)):  # one side
        return None
    made = sides.narrowed(sides.compare(frame, by))
    groups = group_means.means(made)
    rows = []
    for line in comparison.lines(made, "ratio", MAX_ROWS):
        known = line.names
        cells = dict(zip(made.sides, line.cells, strict=True))
        row = [("benchmark", _name(known["benchmark"], known["params"]))]
        row.append(("dtype", Entry(known["dtype"])))
        for side in made.others:
            whose = f"{made.labels[side]}: " if len(made.others) > 1 else ""
            row.append((f"{whose}times as long", _change(cells[side][1])))
        for side in (made.baseline, *made.others):
            row.append((made.labels[side], _side(cells[side][0])))
        row += [(name, Entry(known[name])) for name in ("device", "family")]
        rows.append(("", row))
    return {
        "title": group_means.title(made),
        "warnings": made.warnings,
        "groups": groups,
        "pictures": [
            (side, bars.svg([(one.name, one.ratio) for one in groups if one.side == side]))
            for side in dict.fromkeys(one.side for one in groups)
        ],
        "table": Table("ratios", rows),
    }


def _side(estimate: Estimate | None) -> Entry:
    """Return the time of a cell on a side, or why there is none."""
    if estimate is None or estimate.seconds is None:
        return Entry(estimate.status if estimate else "", "", "number")
    return _number(estimate.seconds, units.seconds)


def _environment(frame: pd.DataFrame) -> dict[str, str]:
    columns = [*ENVIRONMENT, "cpu_count", "memory_bytes", "device_name", "suite_version"]
    columns += ["schema_version"]
    texts = {name: sorted(files.values(frame[name]) - {""}) for name in columns}
    texts["memory_bytes"] = [units.size(int(text)) for text in texts["memory_bytes"]]
    return {name: ", ".join(values) for name, values in texts.items() if values}


def _fleet(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the part for many machines: which of them differ from those of the same hardware."""
    return {
        "machine": f"{frame.machine.nunique():,} machines",
        "basis": "",
        "cards": [
            {
                "title": "Which machines differ?",
                "lines": outliers_report.lines(outliers.find(frame)),
                "fault": False,
                "picture": "",
            }
        ],
        "pictures": [],
        "environment": _environment(frame),
    }


def page(frame: pd.DataFrame) -> tuple[str, list[Picture]]:
    """Return the page for a frame from `files.read`, and the pictures in it."""
    pictures: list[Picture] = []
    fleet = frame.machine.nunique() > WIDE
    settings = [] if fleet else cell_index.settings(frame)
    parts = [_fleet(frame)] if fleet else []
    for number, setting in enumerate(settings):
        found = cell_index.of(setting.rows)
        drawn = plots.of(setting.rows) if number < MAX_PICTURED else []
        owner = setting.name if len(settings) > 1 else ""
        drawn = named(drawn, owner, {picture.name for picture in pictures})
        pictures += drawn
        parts.append(
            {
                "machine": setting.name,
                "basis": answers.rests_on(basis(found)),
                "cards": answers.cards(found),
                "pictures": drawn,
                "environment": _environment(setting.rows),
            }
        )
    table, count = _cells(frame)
    runs = frame.run_id.nunique()
    shown = units.count(count, "cell")
    if len(table.rows) < count:
        shown = f"{len(table.rows):,} of {shown}, the rest is in the CSV"
    what = f"{units.count(runs, 'run')}, {shown}; median of one call, with the 95 % interval"
    if len(settings) > MAX_PICTURED:
        what += f"; pictures of the first {MAX_PICTURED} of {len(settings)} parts"
    machines = [setting.machine for setting in settings] or [str(parts[0]["machine"])]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("template.html")
    script = template.blocks["script"](template.new_context())
    digest = hashlib.sha256("".join(script).encode()).digest()
    text = template.render(
        script_hash=base64.b64encode(digest).decode(),
        machines=list(dict.fromkeys(machines)),
        subtitle=f"{what}.",
        parts=parts,
        compared=None if fleet else _compared(frame),
        table=table,
        factor=units.interval,
    )
    return text, pictures
