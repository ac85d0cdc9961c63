"""Results of pytest-benchmark as rows of this suite."""

import json
import math
from pathlib import Path
from typing import Any

from bench import __version__
from bench.labels import slug
from bench.records.reader import BadFile
from bench.records.schema import Row, join_params

#: Stands where the other tool does not tell.
UNKNOWN = "unknown"


def _need(value: Any, kind: type | tuple[type, ...], path: Path, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadFile(
            f"{path}: {where} is missing or of another kind; give a file of --benchmark-json"
        )
    return value


def _seconds(stats: dict[str, Any], name: str, path: Path, where: str) -> float:
    value = float(_need(stats.get(name), (int, float), path, f"{where}.stats.{name}"))
    if not math.isfinite(value) or value < 0:
        raise BadFile(f"{path}: {where}.stats.{name} is {value}; a time is finite and not negative")
    return value


def pytest_benchmark(path: Path) -> list[Row]:
    """Return the rows of a file that ``--benchmark-json`` wrote.

    Params named device and dtype become the cell's; where there are none, both are unknown. Raises
    BadFile, one line, where the file is not one.
    """
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadFile(f"{path}: {problem.strerror}; give the path of a JSON file") from problem
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"{path}: not JSON ({problem}); give a file of --benchmark-json") from problem
    _need(whole, dict, path, "the whole")
    machine = _need(whole.get("machine_info"), dict, path, "machine_info")
    cpu = machine.get("cpu") if isinstance(machine.get("cpu"), dict) else {}
    known: dict[str, Any] = {
        "suite_version": __version__,
        "run_id": f"imported-{slug(path.stem)[:60]}",
        "run_started": str(whole.get("datetime", UNKNOWN)),
        "machine": slug(str(cpu.get("brand_raw") or machine.get("machine") or ""))[:80] or UNKNOWN,
        "os": f"{machine.get('system', '')} {machine.get('release', '')}".strip(),
        "python": str(machine.get("python_version", "")),
        "torch": "",
        "torchvision": "",
        "cpu": str(cpu.get("brand_raw", "")),
        "cpu_count": 0,
        "memory_bytes": 0,
        "threads": 0,
        "device_name": "",
        "driver": "",
    }
    rows = []
    for number, entry in enumerate(_need(whole.get("benchmarks"), list, path, "benchmarks")):
        where = f"benchmarks[{number}]"
        _need(entry, dict, path, where)
        stats = _need(entry.get("stats"), dict, path, f"{where}.stats")
        name = _need(entry.get("name"), str, path, f"{where}.name")
        params = dict(entry["params"]) if isinstance(entry.get("params"), dict) else {}
        function, _, rest = name.partition("[")
        columns: dict[str, Any] = {
            "family": "imported",
            "benchmark": function.removeprefix("bench_").removeprefix("test_") or name,
            "device": str(params.pop("device", "")) or UNKNOWN,
            "dtype": str(params.pop("dtype", "")) or UNKNOWN,
            "params": join_params(params or ({"id": rest.removesuffix("]")} if rest else {})),
        }
        for column in ("min", "q1", "median", "q3", "max", "mean", "stddev"):
            columns[f"{column}_s"] = _seconds(stats, column, path, where)
        for column in ("rounds", "iterations"):
            columns[column] = int(_seconds(stats, column, path, where))
        rows.append(Row(**known, **columns, status="ok"))
    return rows
