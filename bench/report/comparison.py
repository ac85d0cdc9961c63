"""A comparison as text: for a terminal, for GitHub, for a spreadsheet, for a program."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from tabulate import tabulate

from bench.compare.estimates import Estimate
from bench.compare.sides import Comparison
from bench.records import params
from bench.report import escape, units
from bench.stats.ratios import Ratio, geometric_mean

FORMATS = ("terminal", "markdown", "csv", "json")
SORTS = ("name", "ratio")


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


def _natural(comparison: Comparison, name: tuple[str, ...]) -> tuple[object, ...]:
    """Sort key by which n=16 comes before n=4096."""
    parts = zip(comparison.row_names, name, strict=True)
    return tuple(params.natural(text) if key == "params" else text for key, text in parts)


def lines(
    comparison: Comparison, sort: str = "name", top: int | None = None, different: bool = False
) -> list[Line]:
    """Return the rows of a comparison: sorted, those that differ alone, the first `top`."""
    made = []
    for name in comparison.rows:
        keys = [(name, side) for side in comparison.sides]
        cells = [(comparison.cells.get(key), comparison.ratios.get(key)) for key in keys]
        made.append(Line(name, cells))
    if different:
        made = [line for line in made if line.change > 1]
    if sort == "ratio":
        made.sort(key=lambda line: -line.change)
    else:
        made.sort(key=lambda line: _natural(comparison, line.name))
    return made[:top]


def _time(estimate: Estimate, scale: float) -> str:
    assert estimate.seconds is not None
    text = units.significant(estimate.seconds / scale)
    if estimate.low is not None and estimate.high is not None and estimate.low > 0:
        half = 50 * (estimate.high - estimate.low) / estimate.seconds
        if math.isfinite(half):
            # Rounded up: a margin is no smaller than it is said to be.
            text += f" ±{math.ceil(half)}%"
    return text


#: Escape sequences (ECMA-48, SGR): faster in green, slower in red, no usable time in yellow.
_GREEN, _RED, _YELLOW, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


def _coloured(text: str, value: Ratio | None) -> str:
    if value is None or not value.significant:
        return text
    return f"{_GREEN if value.value < 1 else _RED}{text}{_PLAIN}"


def _ratio(value: Ratio | None) -> str:
    if value is None:
        return ""
    return f" {units.significant(value.value, 2)}x" if value.significant else " ~"


def _cells(line: Line, colour: bool) -> tuple[str, list[str]]:
    """Return the unit of a row, the same on all its sides, and its cells."""
    times = [e.seconds for e, _ in line.cells if e and e.seconds]
    scale, unit = units.scale(min(times)) if times else (1.0, "")
    texts = []
    for estimate, against in line.cells:
        if estimate is None:
            texts.append("")
        elif estimate.seconds is None:
            status = estimate.status
            texts.append(f"{_YELLOW}{status}{_PLAIN}" if colour else status)
        else:
            text = _ratio(against)
            texts.append(_time(estimate, scale) + (_coloured(text, against) if colour else text))
    return unit, texts


def means(comparison: Comparison) -> list[str]:
    """Return the geometric mean of the ratios of each side, over the cells that all sides share.

    It is of all rows, whichever are shown: the mean of those that differ most says nothing.
    """
    every, sides = comparison.rows, comparison.sides
    timed = {key for key, estimate in comparison.cells.items() if estimate.medians}
    shared = [row for row in every if all((row, side) in timed for side in sides)]
    left_out = len(every) - len(shared)
    said = []
    for side in sides:
        values = [r.value for row in shared if (r := comparison.ratios.get((row, side)))]
        mean = geometric_mean(values)
        if mean is not None:
            said.append(
                f"{' '.join(side)} takes {units.significant(mean)} times as long as "
                f"{' '.join(comparison.baseline)}, geometric mean of {len(values):,} cells"
            )
    if left_out:
        said.append(
            f"{left_out:,} of {len(every):,} cells are left out of the mean: "
            f"not all {len(sides)} sides have a usable time"
        )
    return said


def _head(comparison: Comparison) -> list[str]:
    said = [f"{name}: {value}" for name, value in comparison.equal.items()]
    told = ["; ".join(said)] if said else []
    return told + [f"warning: {line}" for line in comparison.warnings]


def _titles(comparison: Comparison) -> list[str]:
    base = comparison.baseline
    return [" ".join(s) + (" (baseline)" if s == base else "") for s in comparison.sides]


def _table(
    comparison: Comparison,
    found: list[Line],
    tablefmt: str,
    as_text: Callable[[str], str] = str,
    colour: bool = False,
) -> str:
    rows = []
    for line in found:
        unit, cells = _cells(line, colour)
        name = [as_text(text.replace(";", " ")) for text in line.name]
        rows.append([*name, *cells, unit])
    headers = [*comparison.row_names, *map(as_text, _titles(comparison)), "unit"]
    align = ["left"] * len(comparison.row_names) + ["right"] * len(comparison.sides) + ["left"]
    if not rows:
        return "no row is left"
    return tabulate(rows, headers, tablefmt, colalign=align, disable_numparse=True)


LEGEND = "median ± half its 95 % interval; times as long as the baseline; ~ no difference seen"


def text(comparison: Comparison, found: list[Line], colour: bool = False) -> str:
    """Return the comparison for a terminal."""
    table = _table(comparison, found, "simple", colour=colour)
    parts = [*_head(comparison), "", table, "", LEGEND]
    return "\n".join([*parts, *means(comparison)]).lstrip("\n")


def markdown(comparison: Comparison, found: list[Line]) -> str:
    """Return the comparison as GitHub Markdown; what comes from files cannot become markup."""
    table = _table(comparison, found, "github", escape.markdown)
    told = [*_head(comparison), LEGEND, *means(comparison)]
    return "\n".join([table, "", *(f"- {escape.markdown(line)}" for line in told)])


def records(comparison: Comparison, found: list[Line]) -> list[dict[str, object]]:
    """Return one mapping for each cell and side; times in seconds."""
    made: list[dict[str, object]] = []
    for line in found:
        for side, (estimate, against) in zip(comparison.sides, line.cells, strict=True):
            if estimate is None:
                continue
            names: dict[str, object] = {}
            names |= zip(comparison.row_names, line.name, strict=True)
            names |= zip(comparison.side_names, side, strict=True)
            made.append(
                names
                | {
                    "status": estimate.status,
                    "runs": len(estimate.medians),
                    "median_s": estimate.seconds,
                    "low_s": estimate.low,
                    "high_s": estimate.high,
                    "baseline": side == comparison.baseline,
                    "ratio": against.value if against else None,
                    "ratio_low": against.low if against else None,
                    "ratio_high": against.high if against else None,
                    "significant": against.significant if against else None,
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
        texts = {key: escape.no_formula(v) for key, v in one.items() if isinstance(v, str)}
        writer.writerow(one | texts)
    return out.getvalue()
