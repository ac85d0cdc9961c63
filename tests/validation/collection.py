"""Runs of unchanged code: the same cells timed in many fresh processes, with their rounds.

``python -m tests.validation.collection FILE`` times forty cells of the suite on the CPU in fresh
processes and writes one line for each cell of each process. With ``--busy N``, N more processes
run while another process keeps a core busy. With ``--stored DIR``, the runs are those of a folder:
result CSVs, each with the JSON of pytest-benchmark beside it. `tests.validation.gates` resamples
suites from such a file.
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.launch import command
from bench.records import reader
from bench.records.params import join
from bench.records.schema import CellKey
from tests.validation.coverage import neighbour

#: Forty cells from 1 us to 2 ms: 20 operations in two dtypes.
CELLS = "matmul or softmax or bench_contiguous or chain or bench_sum or bench_linear or bmm"
FAMILIES = "--family=tensors,training"
WORDS = (FAMILIES, "--device=cpu", "--dtype=float32,bfloat16", "-k", CELLS)
#: Rounds of a cell that are kept, evenly spaced over all of them, in order.
KEPT = 20
COLUMNS = ("run", "busy", "cell", "status", "min_s", "median_s", "rounds_s")


@dataclass(frozen=True)
class Sample:
    """What one process found of one cell: seconds of one iteration."""

    min_s: float
    median_s: float
    rounds_s: tuple[float, ...]


#: The samples of each cell, one for each run; None if the cell was not `ok` in it.
Runs = dict[CellKey, list[Sample | None]]


def _cell(benchmark: str, params: dict[str, Any]) -> str:
    rest = {name: value for name, value in params.items() if name not in ("device", "dtype")}
    return " ".join(filter(None, (benchmark, params["dtype"], join(rest)))).replace(";", " ")


def in_process() -> Iterator[dict[str, Any]]:
    """Time the cells in a fresh process, as a user would; yield a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.csv"
        words = command.of("--benchmark-only", "--quiet", f"--output={rows}", *WORDS)
        words.append(f"--benchmark-json={rows.with_suffix('.json')}")
        subprocess.run(words, check=False, capture_output=True)
        yield from stored(rows)


def stored(rows: Path) -> Iterator[dict[str, Any]]:
    """Yield a line for each cell of a run that is stored: a CSV, and beside it pytest's JSON."""
    entries = json.loads(rows.with_suffix(".json").read_text())["benchmarks"]
    found = {_cell(e["group"], e["params"]): e["stats"]["data"] for e in entries}
    columns = ["benchmark", "dtype", "params", "status", "min_s", "median_s"]
    for benchmark, dtype, params, *outcome in reader.read(rows)[columns].to_numpy().tolist():
        cell = " ".join(filter(None, (benchmark, dtype, params))).replace(";", " ")
        data: Sequence[float] = found.get(cell, ())
        kept = data[:: max(1, len(data) // KEPT)][:KEPT]
        text = " ".join(f"{seconds:.4g}" for seconds in kept)
        yield dict(zip(COLUMNS[2:], (cell, *outcome, text), strict=True))


def read(path: Path, busy: bool | None = None) -> Runs:
    """Return the runs of a file; all of them, or those with or without the busy neighbour.

    Raises OSError, ValueError or KeyError for any other file.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        lines = [x for x in csv.DictReader(file) if busy is None or x["busy"] == str(int(busy))]
    numbers = {run: place for place, run in enumerate(dict.fromkeys(x["run"] for x in lines))}
    runs: Runs = {}
    for x in lines:
        if x["status"] == "ok" and x["rounds_s"]:
            rounds = tuple(map(float, x["rounds_s"].split()))
            benchmark, dtype, *params = x["cell"].split(" ", 2)
            key = CellKey("", benchmark, "cpu", dtype, *(params or [""]))
            samples = runs.setdefault(key, [None] * len(numbers))
            samples[numbers[x["run"]]] = Sample(float(x["min_s"]), float(x["median_s"]), rounds)
    return runs


def main() -> None:
    """Collect; an interrupted collection keeps the finished processes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.validation.collection", description=__doc__
    )
    parser.add_argument("file", type=Path, metavar="FILE.csv.gz")
    parser.add_argument("--processes", type=int, default=60, help="processes on an idle machine")
    parser.add_argument(
        "--busy", type=int, default=0, help="processes while another one keeps a core busy"
    )
    parser.add_argument("--stored", type=Path, nargs="+", metavar="DIR", help="take these runs")
    given = parser.parse_args()
    found = [path for folder in given.stored or () for path in folder.glob("*.csv")]
    if given.stored:
        given.processes, given.busy = len(found), 0
        found.sort(key=lambda path: reader.read(path).run_started[0])
    with gzip.open(given.file, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for number in range(given.processes + given.busy):
            busy = number >= given.processes
            print(f"process {number + 1} of {given.processes + given.busy}", file=sys.stderr)
            with neighbour("one core" if busy else "none"):
                cells = stored(found[number]) if found else in_process()
                writer.writerows({"run": number, "busy": int(busy)} | x for x in cells)
            file.flush()


if __name__ == "__main__":
    main()
