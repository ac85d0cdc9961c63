"""Results of pytest-benchmark as rows of this suite.

Reads ``--benchmark-json`` of pytest-benchmark 2.5 and later, of any suite, and what
`exports.pytest_benchmark` writes.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import __version__
from bench.exchange import nodeids
from bench.exchange.exports import KEPT, WITHOUT_TIME
from bench.records import checks, files, params, reader
from bench.records.labels import cpu_name, slug
from bench.records.reader import BadFile
from bench.records.schema import COLUMNS, IMPORTED, INTEGERS, UNKNOWN, Row
from bench.stats import quantiles

#: Names under which suites pass a dtype or a device to a benchmark, and what such a value is.
DTYPE_NAMES = ("dtype", "dtype_str", "dtype_name", "torch_dtype", "data_type", "tensor_dtype")
DEVICE_NAMES = ("device", "device_str", "device_name", "torch_device", "device_type")
_DTYPE = re.compile(
    r"b?float\d*|f(16|32|64)|[fb]p?(16|32|64)|half|single|double|u?int\d*|complex\d+|bool"
)
#: Other names of dtypes, and what this suite calls them.
_ALIASES = {"half": "float16", "float": "float32", "single": "float32", "double": "float64"}
_ALIASES |= {f"{f}{bits}": f"float{bits}" for f in ("f", "fp") for bits in (16, 32, 64)}
_ALIASES |= {"bf16": "bfloat16", "bfp16": "bfloat16"}
_DEVICE = re.compile(r"(cpu|cuda|gpu|mps|xpu|hpu|xla|mtia|npu|ipu|vulkan|meta)(:\d+)?")
#: Rounds are on two levels where the first quartile is this many times the fastest round, or the
#: third quartile this many times the first, or the mean of all rounds but the slowest one this many
#: times the third: a launch queue that filled up, say. One slow round is a cold start.
LEVELS_APART = 4.0
#: Keys by which JSON files of other tools are known; all of a set are there.
OTHER_TOOLS = {
    "asv": ("commit_hash", "results"),
    "pyperf": ("version", "benchmarks", "metadata"),
    "google-benchmark": ("context", "benchmarks"),
    "nvbench": ("meta", "devices", "benchmarks"),
    "hyperfine": ("results",),
}


def _need(value: Any, kind: type | tuple[type, ...], path: Path, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadFile(
            f"{path}: {where} is missing or of another kind; give a file of --benchmark-json"
        )
    return value


def _seconds(value: Any, path: Path, where: str) -> float:
    given = _need(value, (int, float), path, where)
    try:
        seconds = float(given)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0:
        raise BadFile(f"{path}: {where} is {seconds}; a time is finite and not negative")
    return seconds


def _cpu(machine: dict[str, Any]) -> tuple[str, int | None]:
    """Return name and count of the CPU in every form that py-cpuinfo has given them."""
    cpu = machine.get("cpu")
    if isinstance(cpu, str):
        return cpu, None
    if not isinstance(cpu, dict):
        return "", None
    names = ("brand_raw", "brand", "hardware_raw", "hardware")
    brands = [str(cpu[name]) for name in names if cpu.get(name) and cpu[name] != "unknown"]
    count = cpu.get("count")
    whole = isinstance(count, int) and not isinstance(count, bool) and 0 < count < 2**31
    name = cpu_name(brands[0] if brands else "", map(cpu.get, ("family", "model", "stepping")))
    return name, count if whole else None


def _run(whole: dict[str, Any], raw: bytes) -> dict[str, Any]:
    """Return the columns that are the same in all rows of a file of another suite."""
    machine = whole.get("machine_info")
    machine = machine if isinstance(machine, dict) else {}
    commit = whole.get("commit_info")
    cpu, count = _cpu(machine)
    started = str(whole.get("datetime") or UNKNOWN)
    system = f"{machine.get('system') or ''} {machine.get('release') or ''}".strip()
    return {
        # The version of another suite is its commit.
        "suite_version": _commit(commit if isinstance(commit, dict) else {}) or __version__,
        # Of the content: names of files are alike on all machines (0001_base.json), and a copy
        # under another name is the same run.
        "run_id": f"{IMPORTED}{hashlib.sha256(raw).hexdigest()[:12]}",
        "run_started": started if checks.is_time(started) else UNKNOWN,
        "machine": slug(cpu)[:80] or f"{UNKNOWN}-{_host(machine, raw)}",
        "os": system,
        "python": str(machine.get("python_version") or ""),
        "torch": "",
        "torchvision": "",
        "cpu": cpu,
        "cpu_count": count,
        "memory_bytes": None,
        "threads": None,
        "device_name": "",
        "driver": "",
    }


def _host(machine: dict[str, Any], raw: bytes) -> str:
    """Return a word for a host whose CPU is unknown, so that two of them are not taken for one.

    A hash of the host's name, or of the file where it has none; it does not reveal the name.
    """
    node = machine.get("node")
    return hashlib.sha256(str(node).encode() if node else raw).hexdigest()[:6]


def _commit(info: dict[str, Any]) -> str:
    """Return ``commit 6c2c4ad0f1e2`` (``+`` where files were changed), blank where unknown."""
    found = str(info.get("id") or "")
    if not re.fullmatch(r"(?!0+$)[0-9a-fA-F]{7,64}", found):
        return ""
    return f"commit {found[:12]}{'+' if info.get('dirty') else ''}"


def _kept(extra: Any, path: Path, where: str) -> dict[str, Any]:
    """Return the columns that this suite keeps in ``extra_info``, none where another tool wrote."""
    if not isinstance(extra, dict) or not all(name in extra for name in KEPT):
        return {}
    for name in KEPT:
        kinds = (int, type(None)) if name in INTEGERS else str
        _need(extra[name], kinds, path, f"{where}.extra_info.{name}")
    known = [name for name in COLUMNS if name != "schema_version" and name in extra]
    return {name: extra[name] for name in known}


def _cell(entry: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Return the columns that name the cell.

    Of a node id of this suite they are those of its cell. Of another one, file and class are the
    family: a name may occur in each of several. Params (or ``extra_info``) that hold a dtype or a
    device become the cell's; where there are none, both are unknown. A value without a word of its
    own (an object) is known by pytest's id.
    """
    name = _need(entry.get("name"), str, path, f"{where}.name")
    full = str(entry.get("fullname") or "")
    given = dict(entry["params"]) if isinstance(entry.get("params"), dict) else {}
    function, _, rest = name.partition("[")
    words = {str(key): params.word(value) for key, value in given.items()}
    extra = entry.get("extra_info")
    noted = {k: params.word(v) for k, v in extra.items()} if isinstance(extra, dict) else {}
    dtype = _taken(words, DTYPE_NAMES, _DTYPE) or _taken(noted, DTYPE_NAMES, _DTYPE)
    device = _taken(words, DEVICE_NAMES, _DEVICE) or _taken(noted, DEVICE_NAMES, _DEVICE)
    named = {key: text for key, text in words.items() if text is not None}
    if rest and (len(named) < len(words) or not given):
        named["id"] = re.sub(r"0x[0-9a-fA-F]+", "", rest.removesuffix("]"))[: params.MAX_WORD]
    return {
        "family": nodeids.family_of(full)
        or full.removesuffix(name).removesuffix("::")
        or "imported",
        "benchmark": function.removeprefix("bench_").removeprefix("test_") or name,
        "device": device or UNKNOWN,
        "dtype": _ALIASES.get(dtype, dtype) or UNKNOWN,
        "params": params.join(named),
    }


def _taken(words: dict[str, str | None], names: Iterable[str], form: re.Pattern[str]) -> str:
    """Take the first of `names` out of `words` that holds such a value; return it, or a blank."""
    for name in names:
        text = (words.get(name) or "").lower().removeprefix("torch.")
        if form.fullmatch(text):
            del words[name]
            return text
    return ""


def _times(entry: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Return the columns of the times, in seconds; from all rounds where the file has them."""
    stats = _need(entry.get("stats"), dict, path, f"{where}.stats")
    data = stats.get("data")
    columns: dict[str, Any] = {}
    # Published files are often shortened: then the statistics are all there is.
    if isinstance(data, list) and data and not any(isinstance(one, str) for one in data):
        rounds = [_seconds(value, path, f"{where}.stats.data") for value in data]
        columns |= quantiles.summary(rounds)
    for name in ("median", "min", "q1", "q3", "max", "mean", "stddev"):
        if f"{name}_s" not in columns and (name == "median" or _known(stats.get(name))):
            columns[f"{name}_s"] = _seconds(stats.get(name), path, f"{where}.stats.{name}")
    for name in ("rounds", "iterations"):
        if name not in columns and _known(stats.get(name)):
            columns[name] = int(_seconds(stats[name], path, f"{where}.stats.{name}"))
    return columns


def _known(value: Any) -> bool:
    """Whether a statistic that a row can do without was recorded."""
    return value is not None and value == value


def _contradiction(times: dict[str, Any]) -> str:
    """Return in what the statistics of one entry contradict each other, or that they are two."""
    order = [name for name in ("min_s", "q1_s", "median_s", "q3_s", "max_s") if name in times]
    for low, high in itertools.pairwise(order):
        if times[low] > times[high] * (1 + 1e-9):
            return f"{low} is larger than {high}"
    known = dict(times)
    if times.get("rounds", 0) > 2 and "mean_s" in times and "max_s" in times:
        rest = times["rounds"] * times["mean_s"] - times["max_s"]
        known["mean_s"] = rest / (times["rounds"] - 1)
    for low, high in (("min_s", "q1_s"), ("q1_s", "q3_s"), ("q3_s", "mean_s")):
        if low in known and high in known and known[high] > LEVELS_APART * known[low]:
            return (
                f"{low} is {times[low]:.3g} s and {high} {times[high]:.3g} s: two levels, "
                "as of a device that was not waited for"
            )
    return "" if times["median_s"] > 0 else "the median is 0 s"


def _other_tool(whole: Any) -> str:
    """Return which other tool wrote a file, or a blank."""
    if not isinstance(whole, dict):
        return ""
    entries = whole.get("benchmarks")
    if isinstance(entries, list) and entries and isinstance(entries[0], dict):
        if "stats" in entries[0]:
            return ""
        if "runs" in entries[0]:
            return "pyperf"
    return next(
        (tool for tool, keys in OTHER_TOOLS.items() if all(key in whole for key in keys)), ""
    )


def _load(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = files.read_bytes(path, files.MAX_JSON)
        whole = json.loads(raw)
    except OSError as problem:
        raise BadFile(f"{path}: {problem.strerror}; give the path of a JSON file") from problem
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"{path}: not JSON ({problem}); give a file of --benchmark-json") from problem
    if tool := _other_tool(whole):
        raise BadFile(
            f"{path}: this is a file of {tool}, which is not read; give a file of "
            "pytest-benchmark's --benchmark-json"
        )
    return raw, _need(whole, dict, path, "the whole")


def _row(entry: dict[str, Any], run: dict[str, Any], path: Path, where: str) -> Row:
    kept = _kept(entry.get("extra_info"), path, where)
    known = run | {"status": "ok"} | (kept or _cell(entry, path, where))
    if entry.get("has_error") and not kept:
        known |= {"status": "error", "reason": "the benchmark failed"}
    elif not kept or (known.get("median_s") is None and "stats" in entry):
        known |= _times(entry, path, where)
    if not kept and "median_s" in known and (fault := _contradiction(known)):
        known |= {"status": "unstable", "reason": fault}
    row = Row(**known)
    fields = ["" if value is None else str(value) for value in dataclasses.astuple(row)]
    reader.row(fields, f"{path}, {where} as a row")
    return row


def pytest_benchmark(path: Path) -> list[Row]:
    """Return the rows of a file that ``--benchmark-json`` or `exports.pytest_benchmark` wrote.

    A file of the latter gives back its runs, cells and statuses. An entry whose statistics
    contradict each other is `unstable`. Raises BadFile, one line, where the file is none of both,
    is empty, or would make a CSV that no reader takes.
    """
    raw, whole = _load(path)
    run = _run(whole, raw)
    entries = [
        (f"{key}[{number}]", entry)
        for key in ("benchmarks", WITHOUT_TIME)
        for number, entry in enumerate(
            _need(whole.get(key, [] if key == WITHOUT_TIME else None), list, path, key)
        )
    ]
    if not entries:
        raise BadFile(f"{path}: it holds no benchmark; run pytest with --benchmark-json again")
    rows, seen = [], dict[tuple[str, ...], str]()
    for where, entry in entries:
        row = _row(_need(entry, dict, path, where), run, path, where)
        if (key := row.key) in seen:
            raise BadFile(
                f"{path}: {where} is the same benchmark with the same params as {seen[key]}, "
                f"{entry.get('fullname')!r:.120}; a run has each once, so leave one of them out"
            )
        seen[key] = where
        rows.append(row)
    return rows


def several(paths: Iterable[Path], machine: str | None = None) -> tuple[list[Row], list[str]]:
    """Return the rows of several files, and a notice of each file that is a copy of another.

    `machine` is the label of the machine that was timed, instead of the one made from its CPU.
    Raises BadFile.
    """
    rows: dict[tuple[str, ...], Row] = {}
    notices = []
    for path in paths:
        found = {row.key: row for row in pytest_benchmark(path)}
        if found.keys() & rows.keys():
            notices.append(f"{path}: the same run as in another file, counted once")
        rows |= found
    made = list(rows.values())
    return [dataclasses.replace(row, machine=machine) for row in made] if machine else made, notices
