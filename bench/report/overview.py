"""What a comparison begins with: how much each side differs, by group of benchmarks."""

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


def text(comparison: Comparison) -> str:
    """Return the geometric mean of each group and side, and how many rows differ.

    A mean covers the rows that both sides have; rows that are not settled count with their wide
    intervals. Its interval is as wide as if all errors had one cause.
    """
    names: dict[str, list[Row]] = {}
    for row in comparison.rows:
        names.setdefault(_group(comparison, row), []).append(row)
    order = sorted(names, key=lambda group: (groups.place(group), group))
    others = [side for side in comparison.sides if side != comparison.baseline]
    lines: list[tuple[object, ...]] = []
    for side in others:
        for group, rows in [*((g, names[g]) for g in order), ("all", comparison.rows)]:
            known = (comparison.ratios.get((row, side)) for row in rows)
            found = [ratio for ratio in known if ratio and ratio.bounded]
            if found:
                slower = sum(r.low > 1 for r in found)
                faster = sum(r.high < 1 for r in found)
                lines.append((" ".join(side), group, len(found), _factor(found), slower, faster))
    if not lines:
        return ""
    headers = ["side", "group", "cells", "times as long", "slower", "faster"]
    align = ["left", "left", "right", "left", "right", "right"]
    if len(others) == 1:
        lines, headers, align = [line[1:] for line in lines], headers[1:], align[1:]
    versus = f"{' '.join(others[0])} against" if len(others) == 1 else "Against"
    title = f"{versus} {' '.join(comparison.baseline)}: geometric means and 95 % intervals"
    return f"{title}\n\n{tabulate(lines, headers, colalign=align, disable_numparse=True)}"


def _factor(found: list[Ratio]) -> str:
    whole = mean(found)
    assert whole
    value, low, high = map(units.significant, (whole.value, whole.low, whole.high))
    return f"{value} ({low} to {high})"
