"""One self-contained HTML file: verdicts, pictures, a table to sort and filter, the environment."""

from dataclasses import dataclass

import jinja2
import pandas as pd

from bench import units
from bench.compare import estimates, verdicts
from bench.compare.sides import ENVIRONMENT
from bench.records import schema
from bench.report import advice, plots

#: Rows of the table beyond which a browser would suffer; the CSV has them all.
MAX_ROWS = 5_000
#: Pictures for so many machines; more would make the file larger than it may be.
MAX_PICTURED = 3


@dataclass(frozen=True)
class Entry:
    """A cell of the table: its text, the number it is sorted by if it is one, its class."""

    text: str
    key: float | str | None = None
    kind: str = ""


#: Headings of the table and the class of their column.
COLUMNS = (
    *((name, "") for name in ("machine", "family", "benchmark", "device", "dtype", "params")),
    *(("status", ""), ("median", "number"), ("±", "number"), ("items/s", "number")),
    *(("error", "number"), ("reason", "reason")),
)


def _row(
    key: tuple[str, ...], estimate: estimates.Estimate, items: float, error: float
) -> list[Entry]:
    names = [Entry(text) for text in key[:5]]
    names.append(Entry(key[5].replace(";", " ")))
    seconds = estimate.seconds
    half = ""
    if seconds and estimate.low is not None and estimate.high is not None:
        half = f"{(estimate.high - estimate.low) / 2 / seconds:.1%}"
    rate = items / seconds if seconds and items == items else None
    return [
        *names,
        Entry(estimate.status),
        Entry(units.seconds(seconds) if seconds else "", seconds or "", "number"),
        Entry(half, half.rstrip("%"), "number"),
        Entry(f"{rate:,.0f}" if rate else "", rate or "", "number"),
        Entry(f"{error:.1e}" if error == error else "", error if error == error else "", "number"),
        Entry(estimate.reason, kind="reason"),
    ]


def _table(frame: pd.DataFrame) -> list[list[Entry]]:
    keys = ["machine", *schema.CELL]
    found = estimates.by_group(frame, keys, [])
    last = frame.drop_duplicates(keys, keep="last")
    amounts = last[[*keys, "items", "rel_error"]].astype({"items": "float64"}).to_numpy().tolist()
    return [
        _row(tuple(row[:6]), found[tuple(row[:6]), ()], row[6], row[7])
        for row in amounts[:MAX_ROWS]
    ]


def _environment(frame: pd.DataFrame) -> dict[str, str]:
    columns = [*ENVIRONMENT, "cpu_count", "memory_bytes", "device_name", "suite_version"]
    texts = {name: sorted(set(frame[name].astype(str)) - {""}) for name in columns}
    return {name: ", ".join(values) for name, values in texts.items() if values}


def page(frame: pd.DataFrame) -> tuple[str, list[plots.Picture]]:
    """Return the page for a frame (as `files.read` gives it) and the pictures in it."""
    parts, pictures = [], []
    for number, (machine, rows) in enumerate(frame.groupby("machine", sort=False)):
        said = verdicts.of(rows)
        drawn = plots.of(rows) if number < MAX_PICTURED else []
        pictures += drawn
        parts.append(
            {
                "machine": machine,
                "verdicts": [v for v in said if v.topic not in verdicts.FACTS],
                "facts": [v for v in said if v.topic in verdicts.FACTS],
                "pictures": drawn,
                "environment": _environment(rows),
            }
        )
    loader = jinja2.PackageLoader("bench", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("template.html").render(
        machines=[part["machine"] for part in parts],
        runs=frame.run_id.nunique(),
        parts=parts,
        columns=COLUMNS,
        rows=_table(frame),
        nothing=advice.NOTHING,
    )
    return text, pictures
