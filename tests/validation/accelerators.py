"""Run the suite on strict stand-ins for accelerators; count the rows by family and status.

``python -m tests.validation.accelerators [PROFILE ...]`` runs `bench run` in fresh processes, in
which this module is a plugin of pytest that makes the stand-in. It prints one Markdown table, and
the reason of each row that is not ok. Options of the run follow after ``--``, for example
``-k matmul``.
"""

import argparse
import collections
import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from bench.launch import runner
from bench.measure import visits
from bench.records import reader
from tests.helpers import quiet, strict
from tests.helpers.listeners import RunListener

ROOT = Path(__file__).parents[2]
#: Names the stand-in for the processes of a run.
STAND_IN = "STAND_IN"
#: The cell in which a stand-in with a sticky fault fails.
FAILS_IN = "bench_sort[cuda-float32"


class Listener(RunListener):
    """Prints the lines of a run."""

    def message(self, line: str) -> None:
        """Print a line at once."""
        print(line, file=sys.stderr, flush=True)


def _usable(profile: str) -> bool:
    return strict.PROFILES[profile].fault is None or strict.PROFILES[profile].sticky


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the stand-in before the suite looks for devices."""
    if name := os.environ.get(STAND_IN):
        widest = visits.WIDEST
        quiet.always()
        if _usable(name):
            visits.WIDEST = widest  # of virtual times, none may be unstable
        machine = strict.machine(name)
        device = machine.__enter__()
        config.add_cleanup(lambda: machine.__exit__(None, None, None))
        device.kernel_s = device.host_s = 0.03  # virtual: a round is one call


def pytest_runtest_call(item: pytest.Item) -> None:
    """Break a stand-in with a sticky fault in one cell."""
    device = strict.CURRENT.get("device")
    if device and device.profile.sticky and item.name.startswith(FAILS_IN):
        device.broken = True


def rows_on(profile: str, *words: str) -> pd.DataFrame:
    """Return the rows of the suite on a stand-in; on one that cannot be used, those of the CPU."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    place = runner.Installation(env={STAND_IN: profile, "PYTHONPATH": path})
    given = ["-p", __spec__.name, "--machine=simulated", "--budget=0", *words]
    if _usable(profile):
        given.append(f"--device={strict.PROFILES[profile].kind}")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.csv"
        runner.run(given, 1, output, None, Listener(), place=place)
        return reader.read(output)


def main() -> None:
    """Print the table and the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="*", default=list(strict.PROFILES))
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    asked, words = parser.parse_args(given[:end]), given[end + 1 :]
    print("| stand-in | device | family | count by status | seconds |\n" + "| --- " * 5 + "|")
    why: dict[str, collections.Counter[str]] = {}
    for profile in asked.profiles:
        started = time.perf_counter()
        found = rows_on(profile, *words)
        seconds = time.perf_counter() - started
        for (device, family), rows in found.groupby(["device", "family"]):
            counts = rows.status.value_counts()
            text = ", ".join(f"{count} {status}" for status, count in counts.items())
            print(f"| `{profile}` | {device} | {family} | {text} | {seconds:.0f} |", flush=True)
        bad = found[found.status != "ok"]
        why[profile] = collections.Counter(
            f"{row.status} {row.benchmark} {row.dtype}: {row.reason}" for row in bad.itertuples()
        )
    for profile, reasons in why.items():
        print(f"\n{profile}")
        for line, count in sorted(reasons.items()):
            print(f"- {count} {line}")


if __name__ == "__main__":
    main()
