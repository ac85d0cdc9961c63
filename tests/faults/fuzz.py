"""Give damaged files to every command that reads files, and report what is no clear answer.

``python -m tests.faults.fuzz 24000`` damages 20,000 result CSVs, 1,000 JSON files of
pytest-benchmark, and 3,000 of the other files in `targets`, each in a random place, and gives each
to a random command. A fault is an exception, an exit status that the command does not document,
more than 30 s of CPU time, a gate that passes although a cell is three times slower, or a row that
contradicts itself and is not said to be left out.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.exchange import exports
from tests.faults import damage, targets
from tests.helpers.command import run_bench

LIMIT_S = 30.0
STATUSES = {"check": {1, 2, 3, 4}}
#: The kinds of every `len(KINDS)` tries: two contradictions among 20 CSVs, JSON, other files.
KINDS = ("csv",) * 18 + ("contradiction",) * 2 + ("json",) + ("other",) * 3
Fault = tuple[str, int, str]


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


def attempt(words: list[str], allowed: set[int], prints: str = "") -> str:
    """Run a command in this process; return what is wrong with its end, or an empty string.

    A command that succeeds must print the text `prints`.
    """
    done = run_bench(*words)
    if done.exception and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {str(done.exception)[:200]}"
    # With fewer than three runs a side the gate gives advice.
    advice = done.exit_code == 0 and "advice only" in done.output
    if done.exit_code not in allowed and not advice:
        return f"exit status {done.exit_code}: {done.output[-200:]}"
    if done.exit_code == 0 and prints not in done.output:
        return f"succeeds and does not print {prints!r}: {done.output[:200]}"
    return ""


def tries(count: int, folder: Path, seed: int = 0) -> Iterator[Fault | str]:
    """Damage `count` files; yield for each its kind, or the command, the seed and the fault."""
    base, slower = damage.runs(1, folder, "base.csv"), damage.runs(3, folder, "slow.csv")
    text = slower.read_text(encoding="utf-8")
    entry = {"name": "x", "group": None, "params": None, "extra_info": {}, "options": {}}
    stats = dict.fromkeys(("min", "max", "mean", "median", "q1", "q3", "stddev"), 1e-3)
    document = {
        "machine_info": {"node": "x", "cpu": {"brand_raw": "a"}},
        "datetime": "2026-01-01T00:00:00",
        "version": "5.0.0",
        "benchmarks": [{**entry, "stats": {**stats, "rounds": 5, "iterations": 1}}],
    }
    broken, out, target = folder / "broken.csv", folder / "out.md", folder / "imported.csv"
    for number in range(seed, seed + count):
        source, start = random.Random(number), time.process_time()
        name = kind = KINDS[number % len(KINDS)]
        if kind == "other":
            name = source.choice(list(targets.TARGETS))
            with tempfile.TemporaryDirectory(dir=folder) as own:
                place = Path(own) / "own"
                place.mkdir()
                fault = targets.TARGETS[name](source, place)
        elif kind == "json":
            path = folder / "broken.json"
            path.write_bytes(damage.damaged_json(document, source))
            target.unlink(missing_ok=True)
            fault = attempt(["import", str(path), "-o", str(target)], {0, 1, 2})
        else:
            contradicts = kind == "contradiction"
            damages = damage.contradictory if contradicts else damage.damaged
            broken.write_bytes(damages(text, source))
            name, words = source.choice(list(commands(broken, base, out).items()))
            allowed = STATUSES.get(name, {0, 1, 2})
            fault = attempt(words, allowed, "left out" if contradicts else "")
        if not fault and (seconds := time.process_time() - start) > LIMIT_S:
            fault = f"{seconds:.0f} s"
        yield (name, number, fault) if fault else kind


def main_(report: Callable[[str], None] = lambda line: print(line, flush=True)) -> int:
    """Print each fault, the number of tries of each kind, and how many held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2_400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    held: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for done, one in enumerate(tries(given.count, Path(folder), given.seed), 1):
            if isinstance(one, str):
                held[one] += 1
            else:
                report("{} (seed {}): {}".format(*one))
            if done % 1_000 == 0 or done == given.count:
                kinds = ", ".join(f"{count:,} {kind}" for kind, count in held.items())
                report(f"{held.total():,} of {done:,} tries held ({kinds})")
    return int(held.total() < given.count)


if __name__ == "__main__":
    sys.exit(main_())
