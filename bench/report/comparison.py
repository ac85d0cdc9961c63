"""A comparison as text: for a terminal, for GitHub, for a spreadsheet, for a program."""

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from tabulate import tabulate

from bench.compare.estimates import Estimate
from bench.compare.sides import Comparison
from bench.records import params
from bench.records.writer import no_formula
from bench.report import escape, units
from bench.report.table import WIDTH
from bench.stats.ratios import Ratio, geometric_mean

SORTS = ("name", "ratio")
#: The width of a title in a terminal.
_TITLE = 18

#: Escape sequences (ECMA-48, SGR): faster in green, slower in red, no usable time in yellow.
_GREEN, _RED, _YELLOW, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@dataclass(frozen=True)
class Line:
    """One row: its name, and for each side the estimate and its ratio to the baseline."""

    name: tuple[str, ...]
    cells: list[tuple[Estimate | None, Ratio | None]]

    @property
    def change(self) -> float:
        """The largest significant change, as a factor of at least 1."""
        found = [r.value for _, r in self.cells if r and r.significant]
        return max((max(value, 1 / value) for value in found), default=1.0)

    @property
    def differs(self) -> bool:
        """Whether a time changed significantly, or some sides have a time and others have none."""
        timed = {bool(estimate and estimate.seconds) for estimate, _ in self.cells}
        return self.change > 1 or len(timed) > 1


def lines(
    comparison: Comparison, sort: str = "name", top: int | None = None, different: bool = False
) -> list[Line]:
    """Return the rows of a comparison, sorted; only the `different` ones, only the first `top`."""

    def natural(line: Line) -> tuple[object, ...]:
        parts = zip(comparison.row_names, line.name, strict=True)
        return tuple(params.natural(text) if key == "params" else text for key, text in parts)

    made = []
    for name in comparison.rows:
        keys = [(name, side) for side in comparison.sides]
        cells = [(comparison.cells.get(key), comparison.ratios.get(key)) for key in keys]
        made.append(Line(name, cells))
    if different:
        made = [line for line in made if line.differs]
    if sort == "ratio":
        return sorted(made, key=lambda line: -line.change)[:top]
    return sorted(made, key=natural)[:top]


def _time(estimate: Estimate, scale: float) -> str:
    assert estimate.seconds is not None
    text = units.significant(estimate.seconds / scale)
    if estimate.low is not None and estimate.high is not None and estimate.low > 0:
        half = 50 * (estimate.high - estimate.low) / estimate.seconds
        if math.isfinite(half):
            # Rounded up: the printed margin is never smaller than the interval.
            text += f" ±{math.ceil(half)}%"
    return text


def _ratio(ratio: Ratio | None, colour: bool) -> str:
    if ratio is None or not ratio.significant:
        return " ~" if ratio else ""
    text = f" {units.factor(ratio.value)}x"
    return f"{_GREEN if ratio.value < 1 else _RED}{text}{_PLAIN}" if colour else text


def _cells(line: Line, colour: bool, sizes: bool) -> tuple[str, list[str]]:
    """Return the unit of a row, the same on all its sides, and its cells."""
    times = [e.seconds for e, _ in line.cells if e and e.seconds]
    scale, unit = units.scale(min(times), sizes) if times else (1.0, "")
    texts = []
    for estimate, ratio in line.cells:
        if estimate is None:
            texts.append("")
        elif estimate.seconds is None:
            texts.append(f"{_YELLOW}{estimate.status}{_PLAIN}" if colour else estimate.status)
        else:
            texts.append(_time(estimate, scale) + _ratio(ratio, colour))
    return unit, texts


def means(comparison: Comparison) -> list[str]:
    """Return the geometric mean of the ratios of each side, over the cells that all sides share.

    The mean covers all rows, not only the rows shown: those that differ most are no sample.
    """
    every, sides = comparison.rows, comparison.sides
    timed = {key for key, estimate in comparison.cells.items() if estimate.medians}
    shared = [row for row in every if all((row, side) in timed for side in sides)]
    memory = comparison.column == "peak_bytes"
    verb, much = ("needs", "much") if memory else ("takes", "long")
    texts = []
    for side in sides:
        values = [r.value for row in shared if (r := comparison.ratios.get((row, side)))]
        if (mean := geometric_mean(values)) is not None:
            texts.append(
                f"{' '.join(side)} {verb} {units.significant(mean)} times as {much} as "
                f"{' '.join(comparison.baseline)}, geometric mean of {len(values):,} cells"
            )
    if left_out := len(every) - len(shared):
        texts.append(
            f"{left_out:,} of {len(every):,} cells are left out of the mean: "
            f"not all {len(sides)} sides have a usable time"
        )
    return texts


def _head(comparison: Comparison) -> list[str]:
    equal = "; ".join(f"{name}: {value}" for name, value in comparison.equal.items())
    return [*filter(None, [equal]), *(f"warning: {line}" for line in comparison.warnings)]


def _common(comparison: Comparison) -> dict[str, str]:
    """Return the device and the dtype of all cells, if they have one in common."""
    found = {}
    for place, name in enumerate(comparison.row_names):
        values = {row[place] for row in comparison.rows}
        if name in ("device", "dtype") and len(values) == 1:
            found[name] = values.pop()
    return found


def _table(
    comparison: Comparison,
    found: list[Line],
    tablefmt: str,
    as_text: Callable[[str], str] = str,
    colour: bool = False,
) -> str:
    # A terminal is narrow: what all cells have in common is above the table.
    names = [
        n for n in comparison.row_names if tablefmt != "simple" or n not in _common(comparison)
    ]
    rows = []
    for line in found:
        unit, cells = _cells(line, colour, comparison.column == "peak_bytes")
        known = dict(zip(comparison.row_names, line.name, strict=True))
        rows.append([*(as_text(known[name].replace(";", " ")) for name in names), *cells, unit])
    if not rows:
        return "no row is left"
    base, sides = comparison.baseline, comparison.sides
    titles = [" ".join(side) + (" (baseline)" if side == base else "") for side in sides]
    if tablefmt == "simple":  # its headers may have several lines
        titles = ["\n".join(textwrap.wrap(title, _TITLE)) for title in titles]
    headers = [*names, *map(as_text, titles), "unit"]
    align = ["left"] * len(names) + ["right"] * len(sides) + ["left"]
    return tabulate(rows, headers, tablefmt, colalign=align, disable_numparse=True)


def _legend(comparison: Comparison) -> str:
    if comparison.column == "median_s":
        what = "median ± half its 95 % interval; 2.0x: twice as long as the baseline"
    else:
        what = f"{comparison.column}, mean of the runs ± half its 95 % interval; "
        what += "2.0x: twice the baseline, from two runs per side"
    return f"{what}; ~: no difference seen"


def text(
    comparison: Comparison, found: list[Line], colour: bool = False, width: int = WIDTH
) -> str:
    """Return the comparison for a terminal of that width; a wide table stays as it is."""

    def fill(lines: list[str]) -> list[str]:
        return [textwrap.fill(line, max(width, WIDTH)) for line in lines]

    table = _table(comparison, found, "simple", colour=colour)
    remarks = fill([_legend(comparison), *means(comparison)])
    head = [f"{name}: {value}" for name, value in _common(comparison).items()]
    return "\n".join([*fill([*_head(comparison), *head]), "", table, "", *remarks]).lstrip("\n")


def markdown(comparison: Comparison, found: list[Line]) -> str:
    """Return the comparison as GitHub Markdown, with the text from files escaped."""
    table = _table(comparison, found, "github", escape.markdown)
    remarks = [*_head(comparison), _legend(comparison), *means(comparison)]
    return "\n".join([table, "", *(f"- {escape.markdown(line)}" for line in remarks)])


def records(comparison: Comparison, found: list[Line]) -> list[dict[str, object]]:
    """Return one mapping for each cell and side; times in seconds."""
    made: list[dict[str, object]] = []
    for line in found:
        for side, (estimate, ratio) in zip(comparison.sides, line.cells, strict=True):
            if estimate is None:
                continue
            names = dict(zip(comparison.row_names, line.name, strict=True))
            made.append(
                names
                | dict(zip(comparison.side_names, side, strict=True))
                | {
                    "status": estimate.status,
                    "runs": len(estimate.medians),
                    comparison.column: estimate.seconds,
                    "low_s": estimate.low,
                    "high_s": estimate.high,
                    "baseline": side == comparison.baseline,
                    "ratio": ratio and ratio.value,
                    "ratio_low": ratio and ratio.low,
                    "ratio_high": ratio and ratio.high,
                    "significant": ratio and ratio.significant,
                }
            )
    return made


def as_json(comparison: Comparison, found: list[Line]) -> str:
    """Return the comparison as one JSON object."""
    made = {
        "baseline": list(comparison.baseline),
        "columns": list(comparison.side_names),
        "equal": comparison.equal,
        "warnings": comparison.warnings,
        "cells": records(comparison, found),
    }
    return json.dumps(made, indent=1)


def as_csv(comparison: Comparison, found: list[Line]) -> str:
    """Return one line for each cell and side."""
    out = io.StringIO()
    made = records(comparison, found)
    writer = csv.DictWriter(out, list(made[0]) if made else ["status"], lineterminator="\n")
    writer.writeheader()
    for one in made:
        texts = {key: no_formula(v) for key, v in one.items() if isinstance(v, str)}
        writer.writerow(one | texts)
    return out.getvalue()


FORMATS: dict[str, Callable[[Comparison, list[Line]], str]] = {
    "terminal": text,
    "markdown": markdown,
    "csv": as_csv,
    "json": as_json,
}
