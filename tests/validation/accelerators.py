"""Run the suite on strict stand-ins for accelerators; count the rows by family and status.

``python -m tests.validation.accelerators [PROFILE ...]`` prints one Markdown table, and the reason
of each row that is not ok. Options of the suite follow after ``--``, for example ``-k matmul``.
"""

import argparse
import collections
import contextlib
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from bench.records import reader
from tests.helpers import quiet, strict

SUITE = Path(__file__).parents[2] / "bench"


def rows_on(profile: str, *words: str) -> pd.DataFrame:
    """Return the rows of the suite on the device of a profile."""
    with tempfile.TemporaryDirectory() as folder, strict.machine(profile) as device:
        device.kernel_s = 0.1  # virtual, so that a cell is few calls
        output = Path(folder) / "rows.csv"
        command = [str(SUITE), "-c", str(SUITE / "plugin" / "suite.ini"), "-p", "bench.plugin"]
        command += ["--benchmark-only", "-q", "--benchmark-quiet", "--machine=simulated"]
        command += [f"--device={device.profile.kind}", f"--output={output}", *words]
        with contextlib.redirect_stdout(sys.stderr):
            pytest.main(command)
        return reader.read(output) if output.exists() else pd.DataFrame()


def main() -> None:
    """Print the table and the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profiles", nargs="*", default=list(strict.PROFILES))
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    asked, words = parser.parse_args(given[:end]), given[end + 1 :]
    quiet.always()
    print("| profile | family | count by status |\n| --- | --- | --- |")
    why: dict[str, collections.Counter[str]] = {}
    for profile in asked.profiles:
        found = rows_on(profile, *words)
        if found.empty:
            print(f"| {profile} | - | not run: the device cannot be used |")
            continue
        for family, rows in found.groupby("family"):
            counts = rows.status.value_counts()
            text = ", ".join(f"{count} {status}" for status, count in counts.items())
            print(f"| `{profile}` | {family} | {text} |")
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
