"""The spread between fresh processes of unchanged code, by this suite and by its peers.

``python -m tests.validation.spread`` times the same cells on the CPU in fresh processes by this suite
(profile `default`), by pytest-benchmark at its defaults, and by ``torch.utils.benchmark``'s
``blocked_autorange`` and ``adaptive_autorange`` at theirs, one process of each in turn. The spread
of a cell is |ln(a / b)| of its medians in two processes, over all pairs. ``--burner`` does it again
beside a process that keeps one core busy, and sets the medians against the quiet ones.

Cells that this suite marks as unstable do not count for it: it says that it could not measure them.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate

from bench.measure import operations
from tests.validation import sixty as cells
from tests.validation.coverage import neighbour

TOOLS = ("this suite", "pytest-benchmark", "blocked_autorange", "adaptive_autorange")
PLAIN = Path(__file__).with_name("plain.py")

#: Median and seconds spent, by cell; None as the median where the tool says it could not measure.
Found = dict[str, tuple[float | None, float]]


def by_timer(tool: str, sixty: bool) -> Found:
    """Time the cells in this process with a method of ``torch.utils.benchmark.Timer``."""
    # Imported here: that of torch 2.6 needs setuptools, which only this tool uses.
    from torch.utils.benchmark import Timer

    cpu = torch.device("cpu")
    found: Found = {}
    for name, operation, args in cells.sixty(cpu) if sixty else operations.core(cpu):
        start = time.perf_counter()
        names = [f"arg{i}" for i in range(len(args))]
        timer = Timer(
            f"operation({', '.join(names)})",
            globals={"operation": operation, **dict(zip(names, args, strict=True))},
            num_threads=torch.get_num_threads(),
        )
        median = getattr(timer, tool)().median
        found[name] = (median, time.perf_counter() - start)
    return found


def in_process(tool: str, sixty: bool) -> Found:
    """Time the cells by `tool` in a fresh process."""
    python = [sys.executable, "-m"]
    if tool == TOOLS[0]:
        out = _output([*python, cells.__name__ if sixty else operations.__name__])
        return {
            name: (None if shown["faults"] else shown["median_s"], shown["spent_s"])
            for name, shown in json.loads(out).items()
        }
    if tool == TOOLS[1]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "out.json"
            options = ["--noconftest", "-p", "no:cacheprovider", "-o", "python_files=*.py"]
            options += ["-o", "python_functions=bench_*", f"--benchmark-json={file}"]
            os.environ["CELLS"] = "sixty" if sixty else ""
            _output([*python, "pytest", str(PLAIN), *options])
            entries = json.loads(file.read_text())["benchmarks"]
        return {
            e["name"].partition("[")[2][:-1]: (e["stats"]["median"], e["extra_info"]["seconds"])
            for e in entries
        }
    out = _output([*python, "tests.validation.spread", "--tool", tool, *["--sixty"] * sixty])
    return {name: (median, seconds) for name, (median, seconds) in json.loads(out).items()}


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def collect(processes: int, sixty: bool, tools: list[str]) -> dict[str, list[Found]]:
    """Run `processes` fresh processes of each tool, one of each in turn."""
    found: dict[str, list[Found]] = {tool: [] for tool in tools}
    for number, tool in itertools.product(range(1, processes + 1), tools):
        print(f"{tool}: process {number} of {processes}", file=sys.stderr)
        found[tool].append(in_process(tool, sixty))
    return found


def medians(runs: list[Found]) -> dict[str, list[float]]:
    """Return the medians of each cell over the processes that could measure it."""
    times: dict[str, list[float]] = {}
    for run in runs:
        for name, (median, _) in run.items():
            if median is not None:
                times.setdefault(name, []).append(median)
    return times


def line(tool: str, runs: list[Found], quiet: list[Found] | None) -> list[str]:
    """Return the figures of one tool as a line of the table."""
    times = medians(runs)
    pairs = [abs(math.log(a / b)) for t in times.values() for a, b in itertools.combinations(t, 2)]
    ratios = {name: max(t) / min(t) for name, t in times.items() if len(t) > 1}
    worst = max(ratios, key=lambda name: ratios[name])
    seconds = statistics.fmean(s for run in runs for _, s in run.values())
    measured = sum(m is not None for run in runs for m, _ in run.values())
    shown = [tool, f"{seconds:.2f}", f"{measured} of {sum(map(len, runs))}"]
    shown += [f"{statistics.median(pairs):.3f}", f"{statistics.quantiles(pairs, n=10)[-1]:.3f}"]
    within = sum(ratio <= 1.25 for ratio in ratios.values())
    shown += [f"{within} of {len(ratios)}", f"{ratios[worst]:.2f} ({worst})"]
    if quiet:
        true = {name: statistics.median(t) for name, t in medians(quiet).items()}
        off = [
            max(t / true[name], true[name] / t)
            for name, ts in times.items()
            if name in true
            for t in ts
        ]
        shown += [f"{statistics.median(off):.2f}", f"{max(off):.1f}"]
    return shown


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.validation.spread", description=__doc__)
    parser.add_argument("--processes", type=int, default=5, help="fresh processes of each tool")
    parser.add_argument("--sixty", action="store_true", help="sixty cells instead of twelve")
    parser.add_argument("--burner", action="store_true", help="again beside a busy neighbour")
    parser.add_argument("--tools", default=",".join(TOOLS), help="joined by commas")
    parser.add_argument("--tool", choices=TOOLS[2:], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.tool:
        print(json.dumps(by_timer(given.tool, given.sixty)))
        return
    tools = [tool for tool in TOOLS if tool in given.tools.split(",")]
    if not tools or given.processes < 2:
        parser.error(f"--tools: some of {', '.join(TOOLS)}; --processes: 2 or more")
    headers = ["tool", "s per cell", "measured", "spread: median", "90th percentile"]
    headers += ["cells within 1.25", "worst"]
    quiet = collect(given.processes, given.sixty, tools)
    lines = [line(tool, quiet[tool], None) for tool in tools]
    print(tabulate(lines, headers, disable_numparse=True))
    if given.burner:
        with neighbour("one core"):
            busy = collect(given.processes, given.sixty, tools)
        lines = [line(tool, busy[tool], quiet[tool]) for tool in tools]
        headers += ["off quiet: median", "worst off"]
        print("\nBeside a process that keeps one core busy:\n")
        print(tabulate(lines, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
