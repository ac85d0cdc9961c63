"""Give damaged files to every command that reads files, and report what is no clear answer.

``python -m tests.faults.fuzz 20000`` damages result CSVs, and JSON of pytest-benchmark, in a random
place each and gives them to a random command. A fault is an exception, an exit status that the
command does not document, more than 30 s, or a gate that passes although a cell is three times
slower.
"""

import argparse
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from typer.testing import CliRunner

from bench.cli import main
from bench.exchange import exports
from bench.records.writer import Writer
from tests.helpers.frames import HOSTILE, row

#: Values that a field is replaced by.
FIELDS = (
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1e308",
        "1e-320",
        "1e999",
        "9" * 400,
        "0x10",
        "1_0",
    ),
    *("ok", "wrong", "unstable", "error", "OK", "3", "2.5", "true", "None", "\x00", "\ud7ff", "é"),
    *(
        "a=1;a=2",
        "n=",
        "=",
        ";;",
        "n=1;b",
        "../../etc",
        "2026-13-01T00:00:00Z",
        "x" * 5_000,
        HOSTILE,
    ),
)
#: Text that is put into a file somewhere.
PIECES = (
    '"',
    "\n",
    "\r",
    "\r\n",
    ",",
    "\x00",
    "\ufeff",
    ",,,,",
    '"""',
    "\n\n",
    "é\ud7ff",
    "#",
    "a" * 9_999,
)
SLOW = "slow"
LIMIT_S = 30.0
STATUSES = {"check": {1, 2, 3, 4}}
Fault = tuple[str, int, str]


def runs(slower: float, folder: Path, name: str) -> Path:
    """Write six runs of four cells; the cell `SLOW` is `slower` times slower."""
    path, source = folder / name, random.Random(name)
    writer = Writer(path)
    for run, (benchmark, dtype) in itertools.product(
        range(6), itertools.product(("cat", SLOW), ("float32", "float16"))
    ):
        median_s = 1e-3 * source.uniform(0.99, 1.01) * (slower if benchmark == SLOW else 1)
        spread = {"min_s": 0.99, "q1_s": 0.995, "q3_s": 1.005, "max_s": 1.02, "mean_s": 1.0}
        spread |= {"ci_low_s": 0.98, "ci_high_s": 1.02}
        times = {column: factor * median_s for column, factor in spread.items()}
        started = f"2026-01-01T0{run}:00:00Z"
        more = {"rounds": 20, "iterations": 3, "rel_error": 1e-7, "tolerance": 1e-6, "items": 8}
        writer.append(
            row(
                run_id=f"{name}{run}",
                run_started=started,
                benchmark=benchmark,
                dtype=dtype,
                params="n=16",
                median_s=median_s,
                **times,
                **more,
            )
        )
    writer.close()
    return path


def damaged(text: str, source: random.Random) -> bytes:
    """Return a CSV with one to three faults."""
    for _ in range(source.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        number = source.randrange(len(lines))
        fields = lines[number].split(",")
        place = source.randrange(len(fields))
        match source.randrange(9):
            case 0 | 1 | 2:
                fields[place] = source.choice(FIELDS)
            case 3:
                del fields[place]
            case 4:
                fields.insert(place, source.choice(FIELDS))
            case 5:
                fields[place], fields[0] = fields[0], fields[place]
            case 6:
                lines.insert(number, lines[source.randrange(len(lines))])
                fields = lines[number].split(",")
            case 7:
                at = source.randrange(len(text) + 1)
                text = text[:at] + source.choice(PIECES) + text[at:]
                continue
            case 8:
                text = text[: source.randrange(len(text) + 1)]
                continue
        lines[number] = ",".join(fields)
        text = "\n".join(lines)
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if source.random() < 0.1 and raw:
        raw[source.randrange(len(raw))] = source.randrange(256)
    return bytes(raw)


def damaged_json(value: object, source: random.Random) -> bytes:
    """Return JSON in which one value, or one character, is another."""
    text = json.dumps(value)
    tokens = [
        "null",
        "NaN",
        "1e999",
        "-1",
        '""',
        "[]",
        "{}",
        "true",
        '"x"',
        "9" * 400,
        "[" * 50_000,
    ]
    at = source.randrange(len(text))
    if source.random() < 0.5:
        ends = [i for i in range(at, len(text)) if text[i] in ",}]:"] or [len(text)]
        return (text[:at] + source.choice(tokens) + text[ends[0] :]).encode()
    return (text[:at] + source.choice([*PIECES, *'{}[],:"0-']) + text[at + 1 :]).encode(
        "utf-8", "surrogatepass"
    )


def commands(broken: Path, other: Path, out: Path) -> dict[str, list[str]]:
    """Return each command that reads result files, with a damaged one."""
    formats = ("json", "markdown")
    return {
        "check": ["check", str(broken), "--baseline", str(other)],
        "verdict": ["verdict", str(broken)],
        **{f"verdict {f}": ["verdict", str(broken), "--all", "--format", f] for f in formats},
        "card": ["card", str(broken)],
        "compare": ["compare", str(other), str(broken)],
        "outliers": ["compare", str(other), str(broken), "--outliers"],
        "columns": ["compare", str(broken), "--columns", "dtype", "--format", "json"],
        "sorted": ["compare", str(broken), str(other), "--format", "markdown", "--sort", "ratio"],
        "history": ["history", str(broken), "--all"],
        "report": ["report", str(broken), "--markdown", "-o", str(out)],
        "page": ["report", str(broken), "-o", str(out)],
        **{f"export {f}": ["export", str(broken), "--format", f] for f in exports.FORMATS},
    }


def attempt(words: list[str], allowed: set[int]) -> str:
    """Run a command in this process; return what is wrong with its end, or an empty string."""
    start = time.monotonic()
    done = CliRunner().invoke(main.app, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {str(done.exception)[:200]}"
    # With fewer than three runs a side the gate gives advice, and says so.
    advice = done.exit_code == 0 and "advice only" in done.output
    if done.exit_code not in allowed and not advice:
        return f"exit status {done.exit_code}: {done.output[-200:]}"
    if (seconds := time.monotonic() - start) > LIMIT_S:
        return f"{seconds:.0f} s"
    return ""


def tries(count: int, folder: Path, seed: int = 0) -> Iterator[Fault]:
    """Damage `count` files; yield the command, the seed and the fault of each that fails."""
    base, slower = runs(1, folder, "base.csv"), runs(3, folder, "slow.csv")
    text = slower.read_text(encoding="utf-8")
    entry = {"name": "x", "group": None, "params": None, "extra_info": {}, "options": {}}
    stats = dict.fromkeys(("min", "max", "mean", "median", "q1", "q3", "stddev"), 1e-3)
    document = {
        "machine_info": {"node": "x", "cpu": {"brand_raw": "a"}},
        "datetime": "2026-01-01T00:00:00",
        "version": "5.0.0",
        "benchmarks": [{**entry, "stats": {**stats, "rounds": 5, "iterations": 1}}],
    }
    for number in range(seed, seed + count):
        source = random.Random(number)
        broken, out = folder / "broken.csv", folder / "out.md"
        if number % 20 == 0:
            broken = folder / "broken.json"
            broken.write_bytes(damaged_json(document, source))
            target = folder / "imported.csv"
            target.unlink(missing_ok=True)
            name, words = "import", ["import", str(broken), "-o", str(target)]
        else:
            broken.write_bytes(damaged(text, source))
            name, words = source.choice(list(commands(broken, base, out).items()))
        if fault := attempt(words, STATUSES.get(name, {0, 1, 2})):
            yield name, number, fault


def main_(report: Callable[[str], None] = print) -> int:
    """Print each fault and the number of tries."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, number, fault in tries(given.count, Path(folder), given.seed):
            found += 1
            report(f"{name} (seed {number}): {fault}")
    report(f"{given.count - found} of {given.count} tries held")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main_())
