"""Time and memory of the commands that summarise many result files, compared with plain pandas.

``python -m tests.validation.many_files`` makes a folder of 10,000 files of 350 rows each, and one of a tenth
of it, and runs each command on both in fresh processes: seconds must grow with the rows, not
faster. The exit status is 1 where a limit is missed: 30 s and 2 GB for 3.5 million rows.
"""

import argparse
import csv
import io
import os
import sys
import tempfile
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
from tabulate import tabulate

from bench.records.schema import COLUMNS
from tests.validation.reading import cell

LIMIT_S, LIMIT_GB, LIMIT_ROWS = 30.0, 2.0, 3_500_000
ROWS = 350
#: What someone with pandas alone would write: the median of each cell over all machines.
_PANDAS = """
import glob, sys, pandas
cell = ["family", "benchmark", "device", "dtype", "params"]
columns = [*cell, "machine", "status", "median_s"]
paths = glob.glob(sys.argv[1] + "/*.csv")
rows = pandas.concat([pandas.read_csv(path, usecols=columns) for path in paths])
print(rows[rows.status == "ok"].groupby(cell, dropna=False).median_s.describe())
"""


def make(folder: Path, files: int) -> None:
    """Write so many files, each of one run of a machine of its own."""
    source = np.random.default_rng(1)
    made = []
    for number in range(ROWS):
        text = io.StringIO()
        csv.writer(text).writerow(astuple(cell("@MACHINE", "@RUN", number, 1.0)))
        start, _, end = text.getvalue().partition(",1.0,")
        made.append((start, end.replace("0.99,1.01", "@LOW,@HIGH")))
    for number in range(files):
        seconds = 1e-6 * np.arange(1, ROWS + 1) * np.exp(source.normal(0, 0.02, ROWS))
        lines = [",".join(COLUMNS) + "\r\n"]
        for (start, end), value in zip(made, seconds.tolist(), strict=True):
            ends = end.replace("@LOW", f"{0.99 * value:.6g}").replace(
                "@HIGH", f"{1.01 * value:.6g}"
            )
            lines.append(f"{start},{value:.6g},{ends}")
        text_ = "".join(lines).replace("@MACHINE", f"node-{number}").replace("@RUN", f"r{number}")
        (folder / f"node-{number}.csv").write_text(text_, encoding="utf-8", newline="")


def measured(command: list[str]) -> tuple[float, float]:
    """Return seconds and the largest memory in GB of a command that ends well."""
    start = time.perf_counter()
    output = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, output, 1)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    os.close(output)
    if status:
        sys.exit(f"{' '.join(command)} ended with exit status {os.waitstatus_to_exitcode(status)}")
    scale = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, used.ru_maxrss * scale / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.validation.many_files", description=__doc__
    )
    parser.add_argument("--files", type=int, default=10_000, help="result files of 350 rows each")
    given = parser.parse_args()
    bench = [sys.executable, "-m", "bench"]
    missed, lines = False, []
    for files in (max(1, given.files // 10), given.files):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            make(folder, files)
            for name, command in (
                ("bench compare", [*bench, "compare", made]),
                ("bench compare --outliers", [*bench, "compare", made, "--outliers"]),
                ("bench report", [*bench, "report", made, "-o", str(folder / "page.html")]),
                ("plain pandas: medians", [sys.executable, "-c", _PANDAS, made]),
            ):
                seconds, memory = measured(command)
                within = seconds <= LIMIT_S and memory <= LIMIT_GB
                missed |= name.startswith("bench") and files * ROWS <= LIMIT_ROWS and not within
                shown = f"{files * ROWS:,}", f"{seconds:.1f}", f"{memory:.2f}"
                lines.append((name, *shown))
    print(tabulate(lines, ("command", "rows", "s", "GB"), disable_numparse=True))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
