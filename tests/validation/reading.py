"""Time and memory of `bench compare` on two files of 100,000 rows each.

``python -m tests.validation.reading`` makes such files in a temporary folder and runs the command in
fresh processes; beside it stand plain ``pandas.read_csv`` of both, and the start of the command.
The exit status is 1 where a limit is missed: 3 s and 1 GB for the comparison, 0.6 s for the start.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from bench.records.schema import Row
from bench.records.writer import Writer
from tests.helpers.frames import row

LIMITS = {"bench compare": (3.0, 1.0), "bench --version": (0.6, 1.0)}
REPEATS = 3


def cell(machine: str, run_id: str, number: int, seconds: float) -> Row:
    """Return a row of a cell that has a number."""
    identity = {"machine": machine, "run_id": run_id, "benchmark": f"operation{number % 50}"}
    times = {"median_s": seconds, "ci_low_s": 0.99 * seconds, "ci_high_s": 1.01 * seconds}
    return row(params=f"n={number}", rounds=20, iterations=100, **identity, **times)


def make(path: Path, machine: str, rows: int) -> None:
    """Write a file of `rows` cells in five runs."""
    writer = Writer(path)
    for number in range(rows):
        run, place = divmod(number, rows // 5)
        seconds = 1e-6 * (1 + place % 997) * (1 + run / 100)
        writer.append(cell(machine, f"{machine}-{run}", place, seconds))
    writer.close()


def best(command: list[str]) -> tuple[float, float]:
    """Return seconds (the best of `REPEATS`) and the largest memory in GB of a command."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    # Of all children so far, in KiB on Linux and bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return min(times), peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.validation.reading", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each of the two files")
    given = parser.parse_args()
    bench = [sys.executable, "-m", "bench"]
    missed, lines = False, []
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{machine}.csv") for machine in "ab"]
        for path, machine in zip(paths, "ab", strict=True):
            make(Path(path), machine, given.rows)
        plain = "import sys, pandas; [pandas.read_csv(path) for path in sys.argv[1:]]"
        # Least memory first: the system reports the maximum of all children so far.
        for name, command in (
            ("bench --version", [*bench, "--version"]),
            ("pandas.read_csv of both", [sys.executable, "-c", plain, *paths]),
            ("bench compare", [*bench, "compare", *paths, "--top", "20"]),
        ):
            seconds, memory = best(command)
            limit = LIMITS.get(name)
            missed |= bool(limit and (seconds > limit[0] or memory > limit[1]))
            allowed = f"{limit[0]:g} s, {limit[1]:g} GB" if limit else ""
            lines.append((name, f"{seconds:.2f}", f"{memory:.2f}", allowed))
    print(tabulate(lines, ("command", "s", "GB", "limit"), disable_numparse=True))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
