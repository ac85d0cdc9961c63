"""Test whether the interval of a cell holds its quiet time, whatever runs beside the suite.

``python -m tests.validation.coverage`` times every fifth cell of profile `default` in fresh
processes: alone, then beside each neighbour in turn, and so on. The quiet time of a cell is the
median of its medians in the runs without a neighbour; a run without one is set against the others.
The machine must be idle otherwise. For a host whose other users never rest, ``--busy-host`` takes
the third fastest median of all runs as the quiet time. A line per neighbour says:

- cells: timed cells over all runs
- usable: share of them whose interval is within a factor of 1.5
- holds: share whose interval holds the quiet time
- width: the median of the upper end over the lower
- off: share of the `ok` cells whose median is not within a factor of 1.25 of the quiet time
- s: seconds of a run
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from bench.records.schema import CELL
from tests.validation.neighbours import MORE, NEIGHBOURS, neighbour

#: Interval of a usable cell, and the largest error of an `ok` one.
USABLE, OFF = 1.5, 1.25

Rows = dict[str, dict[str, str]]


def run(cells: list[str], file: Path, options: list[str]) -> tuple[Rows, float]:
    """Time the cells in a fresh process; return their timed rows and the seconds it took."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", *cells, "--benchmark-only", "--benchmark-quiet"]
    command += ["-q", f"--output={file}", *options]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - start
    with file.open(newline="") as lines:
        rows = {" ".join(row[n] for n in CELL): row for row in csv.DictReader(lines)}
    return {cell: row for cell, row in rows.items() if row["status"] in ("ok", "unstable")}, seconds


def quiet_time(cell: str, run: Rows, quiet: list[Rows], whole: list[Rows] | None) -> float | None:
    """Return the quiet time of a cell of a run: from the other quiet runs, or the `whole` series."""
    known = [one for one in quiet if one is not run] if whole is None else whole
    times = sorted(float(one[cell]["median_s"]) for one in known if cell in one)
    if not times:
        return None
    return statistics.median(times) if whole is None else times[:3][-1]


def line(
    name: str, runs: list[tuple[Rows, float]], quiet: list[Rows], whole: list[Rows] | None
) -> list[str]:
    """Return the figures of one neighbour as a line of the table."""
    usable, holds, ok, off, widths, cells = 0, 0, 0, 0, [], 0
    for rows, _ in runs:
        for cell, row in rows.items():
            true = quiet_time(cell, rows, quiet, whole)
            if true is None:
                continue
            low, high = float(row["ci_low_s"]), float(row["ci_high_s"])
            cells += 1
            widths.append(high / low)
            usable += high / low <= USABLE
            holds += low <= true <= high
            if row["status"] == "ok":
                ok += 1
                off += not 1 / OFF <= float(row["median_s"]) / true <= OFF
    seconds = statistics.fmean(s for _, s in runs)
    shares = [
        f"{part / whole:.1%}" if whole else "-" for part, whole in ((usable, cells), (holds, cells))
    ]
    width = f"{statistics.median(widths):.3f}" if widths else "-"
    return [name, str(cells), *shares, width, f"{off / ok:.1%}" if ok else "-", f"{seconds:.0f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.validation.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--times", type=int, default=2, help="runs beside each neighbour")
    parser.add_argument("--every", type=int, default=5, help="time every so many cells")
    parser.add_argument("--neighbours", default=",".join(NEIGHBOURS), help="joined by commas")
    parser.add_argument("--busy-host", action="store_true", help="the host is never quiet")
    parser.add_argument("--keep", type=Path, help="folder for the result CSVs")
    given, options = parser.parse_known_args()
    names = [name.strip() for name in given.neighbours.split(",")]
    if unknown := set(names) - set(NEIGHBOURS | MORE):
        known = ", ".join(NEIGHBOURS | MORE)
        parser.error(f"--neighbours: unknown {', '.join(unknown)}; known: {known}")
    listed = subprocess.run([sys.executable, "-m", "bench", "list"], capture_output=True, text=True)
    cells = [one for one in listed.stdout.splitlines() if "::" in one][:: given.every]
    found: dict[str, list[tuple[Rows, float]]] = {name: [] for name in ["none", *names]}
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        for number in range(given.times):
            for name in names:
                for beside in dict.fromkeys(("none", name)):
                    print(f"{beside}: run {len(found[beside]) + 1}", file=sys.stderr)
                    file = folder / f"{beside.replace(' ', '-')}-{number}-{len(found[beside])}.csv"
                    with neighbour(beside):
                        found[beside].append(run(cells, file, options))
    quiet = [rows for rows, _ in found["none"]]
    whole = [rows for runs in found.values() for rows, _ in runs] if given.busy_host else None
    lines = [line(name, runs, quiet, whole) for name, runs in found.items()]
    headers = ["beside", "cells", "usable", "holds", "width", "off", "s"]
    print(tabulate(lines, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
