"""Test whether the interval of a cell holds its quiet time, whatever runs beside the suite.

``python -m tests.validation.coverage`` times every fifth cell of profile `default` in fresh
processes: alone, then beside each neighbour in turn, and so on. The quiet time of a cell is the
median of its medians in the runs without a neighbour; a run without one is set against the others.
The machine must be idle otherwise. A line per neighbour says:

- cells: timed cells over all runs
- usable: share of them whose interval is within a factor of 1.5
- holds: share whose interval holds the quiet time
- width: the median of the upper end over the lower
- off: share of the `ok` cells whose median is not within a factor of 1.25 of the quiet time
- s: seconds of a run
"""

import argparse
import contextlib
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from bench.records.schema import CELL

#: What each neighbour runs, until the process that started it is gone.
_NEIGHBOUR = """
import os, subprocess, sys, tempfile, time
parent = os.getppid()
def alive():
    return os.getppid() == parent
def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
def poller():
    while alive():
        time.sleep(1 / 300)
def bursts(share, period=1.0):
    while alive():
        busy(share * period)
        time.sleep((1 - share) * period)
def burn():
    while alive():
        busy(0.2)
def stream():
    import numpy as np
    a = np.ones(2**24); b = np.empty_like(a)
    while alive():
        np.copyto(b, a)
def write():
    block = os.urandom(2**22)
    with tempfile.TemporaryFile() as file:
        while alive():
            for _ in range(16):
                file.write(block)
            file.flush(); os.fsync(file.fileno()); file.seek(0)
def train():
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    data = TensorDataset(torch.rand(4096, 784), torch.randint(0, 10, (4096,)))
    net = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    while alive():
        for x, y in DataLoader(data, 64, num_workers=1):
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step(); optimizer.zero_grad()
            if not alive():
                break
"""
#: The call that makes each neighbour, and how many processes of it.
NEIGHBOURS = {
    "none": ("", 0),
    "poller": ("poller()", 1),
    "bursts of 10 %": ("bursts(0.1)", 1),
    "bursts of 50 %": ("bursts(0.5)", 1),
    "one core": ("burn()", 1),
    "all cores": ("burn()", 0),
    "memory streamer": ("stream()", 1),
    "disk writer": ("write()", 1),
    "training": ("train()", 1),
}
#: Interval of a usable cell, and the largest error of an `ok` one.
USABLE, OFF = 1.5, 1.25

Rows = dict[str, dict[str, str]]


@contextlib.contextmanager
def neighbour(name: str) -> Iterator[None]:
    """Run the neighbour."""
    call, count = NEIGHBOURS[name]
    if call and not count:
        import psutil

        count = psutil.cpu_count() or 1
    program = [sys.executable, "-c", _NEIGHBOUR + call]
    processes = [subprocess.Popen(program) for _ in range(count)]
    try:
        time.sleep(3 if count else 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


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


def line(name: str, runs: list[tuple[Rows, float]], quiet: list[Rows]) -> list[str]:
    """Return the figures of one neighbour as a line of the table."""
    usable, holds, ok, off, widths, cells = 0, 0, 0, 0, [], 0
    for rows, _ in runs:
        others = [one for one in quiet if one is not rows]
        for cell, row in rows.items():
            times = [float(one[cell]["median_s"]) for one in others if cell in one]
            if not times:
                continue
            true = statistics.median(times)
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
    parser.add_argument("--keep", type=Path, help="folder for the result CSVs")
    given, options = parser.parse_known_args()
    names = [name.strip() for name in given.neighbours.split(",")]
    if unknown := set(names) - set(NEIGHBOURS):
        parser.error(f"--neighbours: unknown {', '.join(unknown)}; known: {', '.join(NEIGHBOURS)}")
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
    lines = [line(name, runs, quiet) for name, runs in found.items()]
    headers = ["beside", "cells", "usable", "holds", "width", "off", "s"]
    print(tabulate(lines, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
