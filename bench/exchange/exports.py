"""Result rows as other tools read them. Only rows that are `ok` are handed on."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.records.schema import split_params


def _usable(frame: pd.DataFrame) -> list[Any]:
    """Return the rows to hand on, their columns as attributes."""
    return list(frame[(frame.status == "ok") & (frame.median_s > 0)].itertuples())


def _name(row: Any) -> str:
    """Return the name that pytest gives the cell: ``bench_cat[cpu-float32-dim=0-n=16]``."""
    params = "-".join(filter(None, [row.device, row.dtype, *row.params.split(";")]))
    return f"bench_{row.benchmark}[{params}]"


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def pytest_benchmark(frame: pd.DataFrame) -> str:
    """Return what ``pytest-benchmark compare`` reads; see its ``--benchmark-json``."""
    benchmarks = []
    for row in _usable(frame):
        rounds = int(row.rounds) if pd.notna(row.rounds) else 1
        named = dict(split_params(row.params), device=row.device, dtype=row.dtype)
        mean, stddev = _number(row.mean_s) or row.median_s, _number(row.stddev_s) or 0.0
        q1, q3 = _number(row.q1_s) or row.median_s, _number(row.q3_s) or row.median_s
        benchmarks.append(
            {
                "group": row.benchmark,
                "name": _name(row),
                "fullname": f"bench/{row.family}::{_name(row)}",
                "params": named,
                "param": "-".join(named.values()),
                "extra_info": {"machine": row.machine, "run_id": row.run_id},
                "options": {
                    "disable_gc": True,
                    "timer": "perf_counter",
                    "min_rounds": rounds,
                    "max_time": 0.0,
                    "min_time": 0.0,
                    "warmup": False,
                },
                "stats": {
                    "min": _number(row.min_s) or row.median_s,
                    "max": _number(row.max_s) or row.median_s,
                    "mean": mean,
                    "stddev": stddev,
                    "rounds": rounds,
                    "median": row.median_s,
                    "iqr": q3 - q1,
                    "q1": q1,
                    "q3": q3,
                    "iqr_outliers": 0,
                    "stddev_outliers": 0,
                    "outliers": "0;0",
                    "ld15iqr": _number(row.min_s) or row.median_s,
                    "hd15iqr": _number(row.max_s) or row.median_s,
                    "ops": 1 / mean,
                    "total": mean * rounds,
                    "iterations": int(row.iterations) if pd.notna(row.iterations) else 1,
                },
            }
        )
    first = frame.iloc[0]
    cpus = int(first.cpu_count) if pd.notna(first.cpu_count) else 0
    machine = {
        "node": str(first.machine),
        "processor": str(first.cpu),
        "machine": str(first.machine),
        "system": str(first.os).partition(" ")[0],
        "release": str(first.os).partition(" ")[2],
        "python_version": str(first.python),
        "python_implementation": "CPython",
        "python_implementation_version": str(first.python),
        "python_compiler": "",
        "python_build": ["", ""],
        "cpu": {
            "brand_raw": str(first.cpu),
            "count": cpus,
        },
    }
    whole = {
        "machine_info": machine,
        "commit_info": {"id": "unknown", "time": None, "dirty": False, "branch": "(unknown)"},
        "benchmarks": benchmarks,
        "datetime": str(first.run_started),
        "version": "5.0.0",
    }
    return json.dumps(whole, indent=1)


def go(frame: pd.DataFrame) -> str:
    """Return the Go benchmark format, which benchstat reads: a line for each run of each cell.

    https://go.googlesource.com/proposal/+/master/design/14313-benchmark-format.md
    """
    first = frame.iloc[0]
    lines = [f"goos: {str(first.os).partition(' ')[0].lower()}", f"cpu: {first.cpu}"]
    lines.append(f"machine: {first.machine}")
    for row in _usable(frame):
        name = "".join(part.capitalize() for part in row.benchmark.split("_"))
        parts = [f"device={row.device}", f"dtype={row.dtype}", *filter(None, row.params.split(";"))]
        words = "/".join([f"Benchmark{name}", *parts]).split()
        rounds = int(row.rounds) if pd.notna(row.rounds) else 1
        calls = rounds * (int(row.iterations) if pd.notna(row.iterations) else 1)
        lines.append(f"{'_'.join(words)} {calls} {row.median_s * 1e9:.6g} ns/op")
    return "\n".join(lines) + "\n"


def bencher(frame: pd.DataFrame) -> str:
    """Return Bencher Metric Format: latency in nanoseconds with its interval (bencher.dev)."""
    made = {}
    for row in _usable(frame):
        latency: dict[str, float] = {"value": row.median_s * 1e9}
        if pd.notna(row.ci_low_s) and pd.notna(row.ci_high_s):
            latency |= {"lower_value": row.ci_low_s * 1e9, "upper_value": row.ci_high_s * 1e9}
        made[_name(row)] = {"latency": latency}
    return json.dumps(made, indent=1)


def smaller_is_better(frame: pd.DataFrame) -> str:
    """Return what github-action-benchmark reads as its tool ``customSmallerIsBetter``."""
    made = []
    for row in _usable(frame):
        entry = {"name": _name(row), "unit": "s", "value": row.median_s}
        if pd.notna(row.ci_low_s) and pd.notna(row.ci_high_s):
            entry["range"] = f"± {(row.ci_high_s - row.ci_low_s) / 2:.3g}"
        made.append(entry | {"extra": f"{row.machine}, torch {row.torch}, {row.threads} threads"})
    return json.dumps(made, indent=1)


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "pytest-benchmark": pytest_benchmark,
    "go": go,
    "bencher": bencher,
    "smaller-is-better": smaller_is_better,
}
