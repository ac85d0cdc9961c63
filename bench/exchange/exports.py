"""Result rows as other tools read them.

Only rows that are `ok` are handed on, except to pytest-benchmark, whose ``extra_info`` holds the
status.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from bench.compare import estimates, files, observations
from bench.compare.estimates import Estimate
from bench.exchange import nodeids
from bench.records import schema
from bench.records.choices import UserError
from bench.records.params import split
from bench.records.schema import CellKey

#: Columns that identify a row: pytest-benchmark has no field for them, and `imports` needs them.
KEPT = schema.COLUMNS[schema.COLUMNS.index("suite_version") : schema.COLUMNS.index("status")]
#: Rows without a time that another tool may use: a key of its own beside ``benchmarks``, which
#: pytest-benchmark does not read and `imports` does.
WITHOUT_TIME = "torch_device_bench_without_time"
#: Statuses whose time pytest-benchmark is given.
TIMED = ("ok", "unstable", "fallback")
#: Columns of which a file may have one value: the format has no field for them.
ALIKE = ("machine", "torch", "threads", "python")


class CannotExport(UserError, ValueError):
    """The rows do not fit into the format; the message is one line for the user."""


def _cell(row: Any) -> CellKey:
    return CellKey(*(getattr(row, name) for name in schema.CELL))


def _values(frame: pd.DataFrame, column: str) -> list[str]:
    return sorted(files.values(frame[column]))


def _only(frame: pd.DataFrame, column: str) -> str:
    """Return the value that all rows have in a column, blank if they differ."""
    values = _values(frame, column)
    return values[0] if len(values) == 1 else ""


def _refuse_several(frame: pd.DataFrame, format: str) -> None:
    """Raise CannotExport if rows differ in a column of `ALIKE`."""
    for column in ALIKE:
        values = [value or "blank" for value in _values(frame, column)]
        if len(values) > 1:
            raise CannotExport(
                f"--format {format}: {column} differs ({', '.join(values[:4])}) and the format "
                "holds one; export the files of each by themselves"
            )


def _names(cells: Iterable[CellKey], name: Callable[[CellKey, str], str]) -> dict[CellKey, str]:
    """Return the name of each cell, with its family if two cells would share a name without it.

    `name(cell, family)` makes a name. Raises CannotExport if two names are still the same.
    """
    short = {cell: name(cell, "") for cell in cells}
    counts = Counter(short.values())
    made = {
        cell: text if counts[text] == 1 else name(cell, cell.family) for cell, text in short.items()
    }
    text, count = Counter(made.values()).most_common(1)[0] if made else ("", 0)
    if count > 1:
        raise CannotExport(f"{count} cells would have the name {text!r:.200}; rename their params")
    return made


def _pytest_name(cell: CellKey, family: str) -> str:
    """Return the name that pytest gives the cell: ``bench_cat[cpu-float32-dim=0-n=16]``."""
    _, benchmark, device, dtype, params = cell
    inner = "-".join(filter(None, [device, dtype, *params.split(";")]))
    return f"{family}{'/' if family else ''}bench_{benchmark}[{inner}]"


def _go_name(cell: CellKey, family: str) -> str:
    """Return the name that Go would give it: ``BenchmarkCat/device=cpu/dtype=float32/n=16``."""
    _, benchmark, device, dtype, params = cell
    name = "".join(part.capitalize() for part in benchmark.split("_"))
    parts = [f"family={family}"] if family else []
    parts += [f"device={device}", f"dtype={dtype}", *filter(None, params.split(";"))]
    return "_".join("/".join([f"Benchmark{name}", *parts]).split())


def _or(value: Any, otherwise: float) -> float:
    return otherwise if pd.isna(value) else float(value)


def _plain(value: Any) -> str | int | float | None:
    """Return a value of a row as JSON has it."""
    if value is None or pd.isna(value):
        return None
    return value if isinstance(value, (str, float)) else int(value)


def _stats(row: Any) -> dict[str, Any]:
    """Return the statistics of the rounds, in seconds.

    The tables of pytest-benchmark fail if one is missing. So a row with nothing but the median is
    written as pytest-benchmark writes a single round of that time.
    """
    names = ("min", "q1", "median", "q3", "max", "mean")
    seconds = {name: _or(getattr(row, f"{name}_s"), row.median_s) for name in names}
    rounds, iqr = int(_or(row.rounds, 1)), seconds["q3"] - seconds["q1"]
    return seconds | {
        "stddev": _or(row.stddev_s, 0.0),
        "iqr": iqr,
        "rounds": rounds,
        "iterations": int(_or(row.iterations, 1)),
        # The rounds themselves are not stored, so the outliers cannot be counted; the
        # tables need a text here.
        "outliers": "",
        # The outermost rounds within the fences, which histograms need: the extremes if there is
        # no outlier, otherwise the fences.
        "ld15iqr": max(seconds["min"], seconds["q1"] - 1.5 * iqr),
        "hd15iqr": min(seconds["max"], seconds["q3"] + 1.5 * iqr),
        "ops": 1 / seconds["mean"] if seconds["mean"] else 0.0,
        "total": seconds["mean"] * rounds,
    }


def extra_info(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that pytest-benchmark keeps for `imports`, blanks left out.

    Those of `KEPT` are always there: by them `imports` knows an entry of this suite.
    """
    plain = {name: _plain(columns[name]) for name in schema.COLUMNS if name != "schema_version"}
    return {name: value for name, value in plain.items() if name in KEPT or value is not None}


def _entry(row: Any) -> dict[str, Any]:
    """Return what pytest-benchmark writes of a cell, under the node id that pytest gives it."""
    cell = _cell(row)
    params = split(row.params)
    node = nodeids.node_id(row.family, row.benchmark, row.device, row.dtype, params)
    node = node or f"bench/{row.family}::{_pytest_name(cell, '')}"
    function, bracket, words = node.partition("[")
    given = {name: _number(word) for name, word in params.items()}
    made = {
        "group": row.benchmark,
        "name": function.rpartition("::")[2] + bracket + words,
        "fullname": node,
        "params": {"device": row.device, "dtype": row.dtype, **given},
        "param": words.removesuffix("]"),
        "extra_info": extra_info(row._asdict()),
    }
    return made | ({"stats": _stats(row)} if row.median_s > 0 else {})


def _number(word: str) -> str | int:
    """Return a param as pytest-benchmark has it: a whole number as a number."""
    return int(word) if re.fullmatch(r"-?[0-9]{1,18}", word) else word


def pytest_benchmark(frame: pd.DataFrame) -> str:
    """Return what ``pytest-benchmark compare`` reads: an entry for each run of each cell.

    See its ``--benchmark-json``; ``extra_info`` holds run, status and reason. Rows that are wrong
    or were not measured are under a key that only `imports` reads. Raises CannotExport.
    """
    _refuse_several(frame, "pytest-benchmark")
    timed = (frame.status.isin(TIMED) & (frame.median_s > 0)).to_numpy()
    benchmarks, rest = (
        [_entry(row) for row in frame[part].itertuples()] for part in (timed, ~timed)
    )
    system, _, release = _only(frame, "os").partition(" ")
    cpu, count = _only(frame, "cpu"), _only(frame, "cpu_count")
    machine = {
        "node": _only(frame, "machine"),
        "processor": cpu,
        "system": system,
        "release": release,
        "python_version": _only(frame, "python"),
        "cpu": {"brand_raw": cpu} | ({"count": int(count)} if count else {}),
    }
    whole = {
        "machine_info": machine,
        # What pytest-benchmark writes where it finds no commit; the CSV has none.
        "commit_info": {"id": "unknown", "time": None, "branch": "(unknown)"},
        "benchmarks": benchmarks,
        WITHOUT_TIME: rest,
        "datetime": min(frame.run_started),
    }
    return json.dumps(whole, indent=1)


def go(frame: pd.DataFrame) -> str:
    """Return the Go benchmark format, which benchstat reads: a line for each run of each cell.

    https://go.googlesource.com/proposal/+/master/design/14313-benchmark-format.md
    A configuration line holds until its value changes, and is then written again. Raises
    CannotExport.
    """
    rows: list[Any] = list(frame[observations.timed(frame)].itertuples())
    names = _names(dict.fromkeys(map(_cell, rows)), _go_name)
    # benchstat compares files whose configuration lines agree, so a line is written only for what
    # has several values within this file.
    mixed = [name for name in ALIKE if name != "machine" and len(_values(frame, name)) > 1]
    written: dict[str, str] = {}
    lines = []
    for row in rows:
        config = {"goos": row.os.partition(" ")[0].lower(), "cpu": row.cpu, "machine": row.machine}
        config |= {name: str(_plain(getattr(row, name)) or "") for name in mixed}
        changed = {key: value for key, value in config.items() if written.get(key) != value}
        lines += [f"{key}: {value}".rstrip() for key, value in changed.items()]
        written |= changed
        calls = int(_or(row.rounds, 1)) * int(_or(row.iterations, 1))
        lines.append(f"{names[_cell(row)]} {calls} {row.median_s * 1e9:.6g} ns/op")
    return "\n".join(lines) + "\n"


def _by_name(frame: pd.DataFrame, format: str) -> dict[str, Estimate]:
    """Return the estimate of each cell over its runs, for a format that has one entry a name."""
    _refuse_several(frame, format)
    found = estimates.by_group(frame, schema.CELL, ())
    timed = {CellKey(*cell): e for (cell, _), e in found.items() if e.medians}
    names = _names(timed, _pytest_name)
    return {names[cell]: estimate for cell, estimate in timed.items()}


def bencher(frame: pd.DataFrame) -> str:
    """Return Bencher Metric Format: latency in nanoseconds with its interval (bencher.dev).

    Raises CannotExport.
    """
    made = {}
    for name, estimate in _by_name(frame, "bencher").items():
        assert estimate.seconds is not None
        latency = {"value": estimate.seconds * 1e9}
        if estimate.low is not None and estimate.high is not None:
            latency |= {"lower_value": estimate.low * 1e9, "upper_value": estimate.high * 1e9}
        made[name] = {"latency": latency}
    return json.dumps(made, indent=1)


def smaller_is_better(frame: pd.DataFrame) -> str:
    """Return what github-action-benchmark reads as its tool ``customSmallerIsBetter``.

    Raises CannotExport.
    """
    made = []
    machine, torch, threads, _ = (_only(frame, name) for name in ALIKE)
    about = [machine, torch and f"torch {torch}", threads and f"{threads} threads"]
    for name, estimate in _by_name(frame, "smaller-is-better").items():
        entry: dict[str, Any] = {"name": name, "unit": "s", "value": estimate.seconds}
        if estimate.low is not None and estimate.high is not None:
            entry["range"] = f"± {(estimate.high - estimate.low) / 2:.3g}"
        runs = len(estimate.medians)
        extra = [*filter(None, about), f"{runs} run{'s' if runs > 1 else ''}"]
        made.append(entry | {"extra": ", ".join(extra)})
    return json.dumps(made, indent=1)


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "pytest-benchmark": pytest_benchmark,
    "go": go,
    "bencher": bencher,
    "smaller-is-better": smaller_is_better,
}
