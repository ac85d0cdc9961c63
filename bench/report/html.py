"""One self-contained HTML file: advice, pictures, a table to sort and filter, the environment."""

import base64
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd

from bench.compare import cells as cell_index
from bench.compare import estimates, files, outliers
from bench.compare.sides import ENVIRONMENT, WIDE
from bench.records import schema
from bench.report import answers, details, plots, units
from bench.report import outliers as outliers_report
from bench.report.phrases import cut
from bench.report.picture import Picture, named
from bench.verdicts.answers import basis

#: The most rows of the table, for the sake of the browser; the CSV has all of them.
MAX_ROWS = 5_000
#: The most machines or settings with pictures, to keep the file small.
MAX_PICTURED = 3


@dataclass(frozen=True)
class Entry:
    """A cell of the table: its text, the number to sort it by if it is one, its class."""

    text: str
    key: float | str | None = None
    kind: str = ""


#: Headings of the table after those that name the cell, and the class of their column.
_FIGURES = {
    **{"median": "number", "±": "number", "items/s": "number", "peak memory": "number"},
    **{"status": "", "error": "number", "reason": "reason", "last run": "details"},
}


def _figures(
    estimate: estimates.Estimate, items: float, error: float, peak: float, note: str
) -> list[Entry]:
    seconds = estimate.seconds
    half = ""
    if seconds and estimate.low is not None and estimate.high is not None:
        half = f"{(estimate.high - estimate.low) / 2 / seconds:.1%}"
    rate = items / seconds if seconds and not math.isnan(items) else None
    # The name in JavaScript; it sorts last.
    key = "Infinity" if math.isinf(error) else error
    return [
        Entry(units.seconds(seconds) if seconds else "", seconds or "", "number"),
        Entry(half, half.rstrip("%"), "number"),
        Entry(f"{rate:,.0f}" if rate else "", rate or "", "number"),
        Entry("", "", "number") if math.isnan(peak) else Entry(units.size(peak), peak, "number"),
        Entry(estimate.status),
        Entry("", "", "number") if math.isnan(error) else Entry(f"{error:.1e}", key, "number"),
        Entry(cut(estimate.reason or note), kind="reason"),
    ]


def _table(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], list[list[Entry]], int]:
    """Return the headings with their classes, the rows shown, and the number of all rows."""
    frame = frame.assign(threads=["" if n is pd.NA else str(n) for n in frame.threads])
    between = [name for name in ("machine", "torch", "threads") if frame[name].nunique() > 1]
    names = [*between, *schema.CELL]
    found = estimates.by_group(frame, names, [])
    cells = frame.drop_duplicates(names, keep="last")
    last = cells.head(MAX_ROWS)
    amounts = dict.fromkeys(("items", "rel_error", "peak_bytes"), "float64")
    rows = []
    values = last[list(details.COLUMNS)].astype(object)
    lines = map(details.line, values.where(values.notna(), None).to_numpy().tolist())
    # The reason of an `ok` row is a note, for example that the data were made up.
    noted = last.assign(note=last.reason.where(last.status == "ok", ""))
    figures = noted[[*names, *amounts, "note"]].astype(amounts).to_numpy().tolist()
    for (*key, items, error, peak, note), line in zip(figures, lines, strict=True):
        name = [Entry(str(text).replace(";", " ")) for text in key]
        more = Entry(line, kind="details")
        rows.append([*name, *_figures(found[tuple(key), ()], items, error, peak, note), more])
    columns = [*((name, "") for name in names), *_FIGURES.items()]
    if last.peak_bytes.isna().all():
        place = [title for title, _ in columns].index("peak memory")
        del columns[place]
        for row in rows:
            del row[place]
    return columns, rows, len(cells)


def _environment(frame: pd.DataFrame) -> dict[str, str]:
    columns = [*ENVIRONMENT, "cpu_count", "memory_bytes", "device_name", "suite_version"]
    columns += ["schema_version"]
    texts = {name: sorted(set(files.texts(frame[name])) - {""}) for name in columns}
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
    columns, rows, count = _table(frame)
    runs = frame.run_id.nunique()
    shown = f"{count:,} cells"
    if len(rows) < count:
        shown = f"{len(rows):,} of {shown}, the rest is in the CSV"
    what = f"{runs:,} run{'s' if runs != 1 else ''}, {shown}; "
    what += "median of one call, with the 95 % interval"
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
        columns=columns,
        rows=rows,
    )
    return text, pictures
