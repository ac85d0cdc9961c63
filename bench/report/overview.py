"""What a comparison begins with: how much each side differs, by group of benchmarks."""

import textwrap
from dataclasses import dataclass

from tabulate import tabulate

from bench.compare.sides import Comparison
from bench.report import units
from bench.stats.ratios import Ratio, mean
from bench.verdicts import groups

Row = tuple[str, ...]


def _group(comparison: Comparison, row: Row) -> str:
    """Return the group of a row; of benchmarks of the user it is their family."""
    known = dict(zip(comparison.row_names, row, strict=True))
    family, benchmark = known.get("family", ""), known.get("benchmark", "")
    return groups.declared().get((family, benchmark), family)


@dataclass(frozen=True)
class Mean:
    """How a side compares with the baseline in a group: in how many cells, which ones differ."""

    side: str
    group: str
    cells: int
    ratio: Ratio
    slower: int
    faster: int


def means(comparison: Comparison) -> list[Mean]:
    """Return the geometric mean of each group and side, and of all rows.

    A mean covers the rows that both sides have; rows that are not settled count with their wide
    intervals. Its interval is as wide as if all errors had one cause.
    """
    names: dict[str, list[Row]] = {}
    for row in comparison.rows:
        names.setdefault(_group(comparison, row), []).append(row)
    order = sorted(names, key=lambda group: (groups.place(group), group))
    made = []
    for side in comparison.others:
        for group, rows in [*((g, names[g]) for g in order), ("all", comparison.rows)]:
            known = (comparison.ratios.get((row, side)) for row in rows)
            found = [ratio for ratio in known if ratio and ratio.bounded]
            if whole := mean(found):
                slower = sum(r.low > 1 for r in found)
                faster = sum(r.high < 1 for r in found)
                made.append(Mean(" ".join(side), group, len(found), whole, slower, faster))
    return made


def title(comparison: Comparison) -> str:
    """Return what is compared with what."""
    others = comparison.others
    versus = f"{' '.join(others[0])} against" if len(others) == 1 else "Against"
    return f"{versus} {' '.join(comparison.baseline)}: geometric means and 95 % intervals"


def text(comparison: Comparison, width: int) -> str:
    """Return the means as a table for a terminal."""
    lines: list[tuple[object, ...]] = [
        (one.side, one.group, one.cells, interval(one.ratio), one.slower, one.faster)
        for one in means(comparison)
    ]
    if not lines:
        return ""
    headers = ["side", "group", "cells", "times as long", "slower", "faster"]
    align = ["left", "left", "right", "left", "right", "right"]
    if len(comparison.others) == 1:
        lines, headers, align = [line[1:] for line in lines], headers[1:], align[1:]
    table = tabulate(lines, headers, colalign=align, disable_numparse=True)
    return f"{textwrap.fill(title(comparison), width)}\n\n{table}"


def interval(ratio: Ratio) -> str:
    """Return ``0.87 (0.80 to 0.94)``."""
    value, low, high = units.factors(ratio.value, ratio.low, ratio.high)
    return f"{value} ({low} to {high})"
