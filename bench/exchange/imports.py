"""Results of pytest-benchmark as rows of this suite."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from bench import __version__
from bench.exchange.exports import KEPT
from bench.records import reader
from bench.records.labels import slug
from bench.records.reader import BadFile
from bench.records.schema import CELL, INTEGERS, Row, join_params

#: Stands where the other tool does not tell.
UNKNOWN = "unknown"


def _need(value: Any, kind: type | tuple[type, ...], path: Path, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadFile(
            f"{path}: {where} is missing or of another kind; give a file of --benchmark-json"
        )
    return value


def _seconds(stats: dict[str, Any], name: str, path: Path, where: str) -> float:
    given = _need(stats.get(name), (int, float), path, f"{where}.stats.{name}")
    try:
        value = float(given)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or value < 0:
        raise BadFile(f"{path}: {where}.stats.{name} is {value}; a time is finite and not negative")
    return value


def _run(whole: dict[str, Any], raw: bytes, path: Path) -> dict[str, Any]:
    """Return the columns that are the same in all rows of a file of another suite."""
    machine = _need(whole.get("machine_info"), dict, path, "machine_info")
    cpu = machine.get("cpu") if isinstance(machine.get("cpu"), dict) else {}
    return {
        "suite_version": __version__,
        # Of the content: names of files are alike on all machines (0001_base.json), and a copy
        # under another name is the same run.
        "run_id": f"imported-{hashlib.sha256(raw).hexdigest()[:12]}",
        "run_started": str(whole.get("datetime") or UNKNOWN),
        "machine": slug(str(cpu.get("brand_raw") or machine.get("machine") or ""))[:80] or UNKNOWN,
        "os": f"{machine.get('system', '')} {machine.get('release', '')}".strip(),
        "python": str(machine.get("python_version", "")),
        "torch": "",
        "torchvision": "",
        "cpu": str(cpu.get("brand_raw", "")),
        "cpu_count": None,
        "memory_bytes": None,
        "threads": None,
        "device_name": "",
        "driver": "",
    }


def _kept(entry: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Return the columns that this suite's own export keeps, none where another tool wrote it."""
    extra = entry.get("extra_info")
    if not isinstance(extra, dict) or not all(name in extra for name in KEPT):
        return {}
    for name in KEPT:
        kinds = (int, type(None)) if name in INTEGERS else str
        _need(extra[name], kinds, path, f"{where}.extra_info.{name}")
    return {name: extra[name] for name in KEPT}


def _cell(entry: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Return the columns that name the cell.

    Its file and class, as pytest names them, are its family: a name may stand in each of several.
    Params named device and dtype become the cell's; where there are none, both are unknown.
    """
    name = _need(entry.get("name"), str, path, f"{where}.name")
    place = str(entry.get("fullname") or "").removesuffix(name).removesuffix("::")
    params = dict(entry["params"]) if isinstance(entry.get("params"), dict) else {}
    function, _, rest = name.partition("[")
    return {
        "family": place or "imported",
        "benchmark": function.removeprefix("bench_").removeprefix("test_") or name,
        "device": str(params.pop("device", "")) or UNKNOWN,
        "dtype": str(params.pop("dtype", "")) or UNKNOWN,
        "params": join_params(params or ({"id": rest.removesuffix("]")} if rest else {})),
    }


def _times(entry: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Return the columns of the times, in seconds."""
    stats = _need(entry.get("stats"), dict, path, f"{where}.stats")
    columns: dict[str, Any] = {}
    for column in ("min", "q1", "median", "q3", "max", "mean", "stddev"):
        columns[f"{column}_s"] = _seconds(stats, column, path, where)
    for column in ("rounds", "iterations"):
        columns[column] = int(_seconds(stats, column, path, where))
    return columns


def pytest_benchmark(path: Path) -> list[Row]:
    """Return the rows of a file that ``--benchmark-json`` or `exports.pytest_benchmark` wrote.

    A file of the latter gives back its runs and cells. Raises BadFile, one line, where the file is
    none of both, or would make a CSV that no reader takes.
    """
    try:
        raw = path.read_bytes()
        whole = json.loads(raw)
    except OSError as problem:
        raise BadFile(f"{path}: {problem.strerror}; give the path of a JSON file") from problem
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"{path}: not JSON ({problem}); give a file of --benchmark-json") from problem
    _need(whole, dict, path, "the whole")
    run = _run(whole, raw, path)
    rows, seen = [], dict[tuple[object, ...], str]()
    for number, entry in enumerate(_need(whole.get("benchmarks"), list, path, "benchmarks")):
        where = f"benchmarks[{number}]"
        _need(entry, dict, path, where)
        known = run | (_kept(entry, path, where) or _cell(entry, path, where))
        row = Row(**known, **_times(entry, path, where), status="ok")
        values = dataclasses.astuple(row)
        fields = ["" if value is None else str(value) for value in values]
        reader.row(fields, f"{path}, {where} as a row")
        key = tuple(getattr(row, name) for name in ("run_id", *CELL))
        if key in seen:
            raise BadFile(
                f"{path}: {where} is the same benchmark with the same params as {seen[key]}, "
                f"{entry.get('fullname')!r:.120}; a run has each once, so leave one of them out"
            )
        seen[key] = where
        rows.append(row)
    return rows
