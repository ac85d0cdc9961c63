"""A comparison as text: for a terminal, for GitHub, for a spreadsheet, for a program."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

from bench.compare.estimates import Estimate
from bench.compare.sides import Comparison
from bench.records import params
from bench.records.writer import no_formula
from bench.report import data, escape, fit, group_means, units
from bench.stats.ratios import Ratio

SORTS = ("name", "ratio")

#: Escape sequences (ECMA-48, SGR): faster in green, slower in red, no usable time in yellow.
_GREEN, _RED, _YELLOW, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@dataclass(frozen=True)
class Line:
    """One row: its names, and for each side the estimate and its ratio to the baseline."""

    names: dict[str, str]
    cells: list[tuple[Estimate | None, Ratio | None]]

    @property
    def change(self) -> float:
        """The largest significant change, as a factor of at least 1."""
        return max((r.factor for _, r in self.cells if r and r.significant), default=1.0)

    @property
    def differs(self) -> bool:
        """Whether a time changed significantly, or a side was not measured that has the cell."""
        timed = {bool(estimate.seconds) for estimate, _ in self.cells if estimate}
        return self.change > 1 or len(timed) > 1


def lines(
    comparison: Comparison, sort: str = "name", top: int | None = None, different: bool = False
) -> list[Line]:
    """Return the rows of a comparison, sorted; only the `different` ones, only the first `top`."""

    def natural(line: Line) -> tuple[object, ...]:
        known = dict(line.names)
        names, values = params.natural(known.pop("params"))
        return (known.pop("family"), known.pop("benchmark"), names, *known.values(), values)

    made = []
    for name in comparison.rows:
        keys = [(name, side) for side in comparison.sides]
        cells = [(comparison.cells.get(key), comparison.ratios.get(key)) for key in keys]
        made.append(Line(dict(zip(comparison.row_names, name, strict=True)), cells))
    if different:
        made = [line for line in made if line.differs]
    if sort == "ratio":
        return sorted(made, key=lambda line: -line.change)[:top]
    return sorted(made, key=natural)[:top]


def _time(estimate: Estimate, scale: float, unit: str) -> str:
    assert estimate.seconds is not None
    text = f"{units.significant(estimate.seconds / scale)} {unit}"
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


def _cells(line: Line, sizes: bool, colour: bool = False) -> list[str]:
    """Return the cells of a row, all in the same unit."""
    times = [e.seconds for e, _ in line.cells if e and e.seconds]
    scale, unit = units.scale(min(times), sizes) if times else (1.0, "")
    texts = []
    for estimate, ratio in line.cells:
        if estimate is None:
            texts.append("")
        elif estimate.seconds is None:
            texts.append(f"{_YELLOW}{estimate.status}{_PLAIN}" if colour else estimate.status)
        else:
            texts.append(_time(estimate, scale, unit) + _ratio(ratio, colour))
    return texts


def _head(comparison: Comparison) -> list[str]:
    equal = "; ".join(f"{name}: {value}" for name, value in comparison.equal.items())
    return [*filter(None, [equal]), *(f"warning: {line}" for line in comparison.warnings)]


def _common(comparison: Comparison) -> dict[str, str]:
    """Return the family, the device and the dtype of all cells, if they have one in common."""
    found = {}
    for place, name in enumerate(comparison.row_names):
        values = {row[place] for row in comparison.rows}
        if name in ("family", "device", "dtype") and len(values) == 1:
            found[name] = values.pop()
    return found


def _titles(comparison: Comparison) -> list[str]:
    labels, base = comparison.labels, comparison.baseline
    return [labels[s] + (" (baseline)" if s == base else "") for s in comparison.sides]


def _legend(comparison: Comparison) -> str:
    if comparison.column == "median_s":
        what = "median ± half its 95 % interval; 2.0x: twice as long as the baseline"
    else:
        what = f"{comparison.column}, mean of the runs ± half its 95 % interval; "
        what += "2.0x: twice the baseline, from two runs per side"
    return f"{what}; ~: no difference seen"


def _folded(comparison: Comparison, found: list[Line], colour: bool) -> str:
    """Return the tables for a terminal; what all cells have in common is above them."""
    common = _common(comparison)
    first = ("benchmark",) if "family" in common else ("family", "benchmark")
    hidden = {*common, "family", "benchmark", "params"}
    columns: dict[str, dict[fit.Name, str]] = {title: {} for title in _titles(comparison)}
    rows = []
    for line in found:
        given = {name: value for name, value in line.names.items() if name not in hidden}
        words = filter(None, (params.join(given), line.names["params"]))
        rows.append((" ".join(line.names[name] for name in first), ";".join(words)))
        cells = _cells(line, comparison.column == "peak_bytes", colour)
        for entries, text in zip(columns.values(), cells, strict=True):
            entries[rows[-1]] = text
    return "\n\n".join(fit.folded(rows, columns))


def text(comparison: Comparison, found: list[Line], colour: bool = False) -> str:
    """Return the comparison for a terminal: means of groups, then the rows."""
    common = [f"{name}: {value}" for name, value in _common(comparison).items()]
    head = "\n".join([*_head(comparison), *common])
    parts = [group_means.text(comparison), fit.fill(head)]
    if found:
        parts += [_folded(comparison, found, colour), fit.fill(_legend(comparison))]
    return "\n\n".join(filter(None, parts))


def markdown(comparison: Comparison, found: list[Line]) -> str:
    """Return the comparison as GitHub Markdown, with the text from files escaped."""
    names, rows = comparison.row_names, []
    for line in found:
        cells = _cells(line, comparison.column == "peak_bytes")
        rows.append([*(escape.markdown(n.replace(";", " ")) for n in line.names.values()), *cells])
    table = "no row is left"
    if rows:
        headers = [*names, *map(escape.markdown, _titles(comparison))]
        align = ["left"] * len(names) + ["right"] * len(comparison.sides)
        table = tabulate(rows, headers, "github", colalign=align, disable_numparse=True)
    remarks = [*_head(comparison), _legend(comparison), *group_means.sentences(comparison)]
    return "\n".join([table, "", *(f"- {escape.markdown(line)}" for line in remarks)])


def records(comparison: Comparison, found: list[Line]) -> list[dict[str, object]]:
    """Return one mapping for each cell and side; times in seconds."""
    made: list[dict[str, object]] = []
    for line in found:
        for side, (estimate, ratio) in zip(comparison.sides, line.cells, strict=True):
            if estimate is None:
                continue
            made.append(
                line.names
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
    return data.dumps(made)


def as_csv(comparison: Comparison, found: list[Line]) -> str:
    """Return one line for each cell and side."""
    made = [
        {key: no_formula(v) if isinstance(v, str) else v for key, v in one.items()}
        for one in records(comparison, found)
    ]
    table = pd.DataFrame(made, columns=list(made[0]) if made else ["status"], dtype=object)
    return table.to_csv(index=False, lineterminator="\n")


FORMATS: dict[str, Callable[[Comparison, list[Line]], str]] = {
    "terminal": text,
    "markdown": markdown,
    "csv": as_csv,
    "json": as_json,
}
