"""What a comparison begins with: how much each side differs, by group of benchmarks."""

from dataclasses import dataclass

from bench.compare import benchmarks
from bench.compare.cells import grouped
from bench.compare.sides import Comparison
from bench.report import fit, units
from bench.stats.ratios import Ratio, mean

#: The group of all rows.
ALL = "all"


@dataclass(frozen=True)
class Mean:
    """How a side compares with the baseline in a group: in how many cells, which ones differ.

    `device` is blank unless the rows are of several devices.
    """

    side: str
    device: str
    group: str
    cells: int
    ratio: Ratio
    slower: int
    faster: int

    @property
    def name(self) -> str:
        """The group, and the device if there are several: ``matrix products on mps``."""
        return " on ".join(filter(None, (self.group, self.device)))


def means(comparison: Comparison) -> list[Mean]:
    """Return the geometric mean of each group and side, and of all rows.

    Devices have means of their own. A mean covers the rows that both sides have; rows that are not
    settled count with their wide intervals. Its interval is as wide as if all errors had one cause.
    """
    place = {name: at for at, name in enumerate(comparison.row_names)}
    by_device = grouped(
        comparison.rows, lambda row: row[place["device"]] if "device" in place else ""
    )
    made = []
    for side in comparison.others:
        for device, every in by_device.items():
            names = grouped(
                every, lambda row: benchmarks.group(row[place["family"]], row[place["benchmark"]])
            )
            order = sorted(names, key=benchmarks.place)
            for group, rows in [*((g, names[g]) for g in order), (ALL, every)]:
                known = (comparison.ratios.get((row, side)) for row in rows)
                found = [ratio for ratio in known if ratio and ratio.bounded]
                if whole := mean(found):
                    slower = sum(r.low > 1 for r in found)
                    faster = sum(r.high < 1 for r in found)
                    label = comparison.labels[side], device if len(by_device) > 1 else ""
                    made.append(Mean(*label, group, len(found), whole, slower, faster))
    return made


def title(comparison: Comparison) -> str:
    """Return what is compared with what."""
    labels, others = comparison.labels, comparison.others
    versus = f"{labels[others[0]]} against" if len(others) == 1 else "Against"
    return f"{versus} {labels[comparison.baseline]}: geometric means and 95 % intervals"


def _words(comparison: Comparison) -> tuple[str, str]:
    return ("needs", "much") if comparison.column == "peak_bytes" else ("takes", "long")


def text(comparison: Comparison) -> str:
    """Return the means as a table for a terminal, one for each side."""
    found = means(comparison)
    parts = fit.wrap(title(comparison)) if found else []
    headers = ("group", "cells", f"times as {_words(comparison)[1]}", "slower", "faster")
    for side in dict.fromkeys(one.side for one in found):
        if len(comparison.others) > 1:
            parts += ["", *fit.wrap(side)]
        rows = [
            (o.name, f"{o.cells:,}", units.interval(o.ratio), str(o.slower), str(o.faster))
            for o in found
            if o.side == side
        ]
        parts += ["", fit.table(headers, rows, right="134")]
    return "\n".join(parts)


def sentences(comparison: Comparison) -> list[str]:
    """Return the mean of all cells of each side, and of each device, as a sentence."""
    verb, effect = _words(comparison)
    base, total = comparison.labels[comparison.baseline], len(comparison.rows)
    return [
        f"{' on '.join(filter(None, (one.side, one.device)))} "
        f"{verb} {units.interval(one.ratio)} times as {effect} as {base}, geometric mean of "
        f"{one.cells:,} of {total:,} cells"
        for one in means(comparison)
        if one.group == ALL
    ]
