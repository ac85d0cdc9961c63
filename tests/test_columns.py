"""Every column of the CSV is documented, and a command shows it."""

import re
from pathlib import Path

import pytest

from bench.compare import sides
from bench.records import schema
from tests.helpers.command import run_bench
from tests.helpers.frames import store

PAGE = (Path(__file__).parent.parent / "docs" / "csv.md").read_text(encoding="utf-8")
#: Column -> the command that shows it, from the table.
SHOWN_BY = {
    name: command
    for names, command in re.findall(r"^\| (`.+?`) \|.*\| `bench (.+)` \|$", PAGE, re.M)
    for name in re.findall(r"`(\w+)`", names)
}

#: A row whose values differ in every column.
SAMPLE = {
    "suite_version": "0.0.7",
    "run_id": "run-8",
    "run_started": "2026-01-09T00:00:00Z",
    "machine": "machine-10",
    "os": "Linux 11",
    "python": "3.12.13",
    "torch": "2.14.15",
    "torchvision": "0.16.17",
    "cpu": "CPU model 18",
    "cpu_count": 19,
    "memory_bytes": 20 * 2**30,
    "threads": 21,
    "device_name": "GPU model 22",
    "driver": "driver 23",
    "family": "training",
    "benchmark": "softmax",
    "device": "cuda",
    "dtype": "bfloat16",
    "params": "n=24",
    "reason": "images were made up",
    "rounds": 25,
    "iterations": 26,
    "min_s": 1.27e-3,
    "q1_s": 1.28e-3,
    "median_s": 1.29e-3,
    "q3_s": 1.30e-3,
    "max_s": 1.31e-3,
    "mean_s": 1.32e-3,
    "stddev_s": 33e-6,
    "ci_low_s": 1.24e-3,
    "ci_high_s": 1.35e-3,
    "first_call_s": 1.36,
    "device_s": 1.17e-3,
    "dispatch_s": 1.18e-6,
    "items": 39,
    "item_unit": "pixel",
    "bytes": 40 * 2**20,
    "flop": 4_100_000,
    "rel_error": 4.2e-7,
    "tolerance": 4.3e-5,
    "peak_bytes": 44 * 2**20,
    "involuntary_switches": 0.451,
    "drift": 0.046,
    "stolen": 0.47,
    "slowdown": 1.48,
    "core_s": 8.76e-6,
}
#: How a value is shown, if not as it is in the CSV.
TEXTS = {
    "schema_version": "<dt>schema_version</dt><dd>2</dd>",
    "memory_bytes": "20.0 GiB",
    "params": "n=24",
    "status": "<td>ok</td>",
    "rounds": "rounds 25;",
    "iterations": "iterations 26;",
    "min_s": "min 1.27 ms;",
    "q1_s": "q1 1.28 ms;",
    "median_s": "1.29",
    "q3_s": "q3 1.30 ms;",
    "max_s": "max 1.31 ms;",
    "mean_s": "mean 1.32 ms;",
    "stddev_s": "stddev 33.0 us;",
    "ci_low_s": "interval from 1.24 ms;",
    "ci_high_s": "to 1.35 ms;",
    "first_call_s": "first call 1.36 s;",
    "device_s": "on the device 1.17 ms;",
    "dispatch_s": "launch 1.18 us;",
    "items": "items 39;",
    "item_unit": "unit pixel;",
    "bytes": "moved 40.0 MiB;",
    "flop": "flop 4,100,000;",
    "rel_error": ">4.2e-07</td>",
    "tolerance": "tolerance 4.3e-05;",
    "peak_bytes": "44.0 MiB",
    "involuntary_switches": "involuntary switches 0.451;",
    "drift": "drift +4.6%",
    "stolen": "taken by others 47%",
    "slowdown": "reference kernels slower by 1.48",
    "core_s": "reference kernel 8.76 us",
}


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A function that returns what a command shows of the sample; each command runs once."""
    folder = tmp_path_factory.mktemp("columns")
    path, page = store(folder / "x.csv", SAMPLE), folder / "report.html"
    seen = {}

    def run(command):
        if command not in seen:
            words = [*command.split(), path, *(["-o", str(page)] if command == "report" else [])]
            done = run_bench(*words)
            assert done.exit_code == 0, done.output
            seen[command] = page.read_text("utf-8") if command == "report" else done.output
        return seen[command]

    return run


@pytest.mark.parametrize("column", schema.COLUMNS)
def test_a_command_shows_the_column(column, output):
    expected = TEXTS.get(column) or str(SAMPLE[column])
    assert expected in output(SHOWN_BY[column])


def test_the_table_has_no_column_that_the_csv_lacks():
    assert SHOWN_BY.keys() == set(schema.COLUMNS)


@pytest.mark.parametrize("column", [n for n in schema.COLUMNS if n.endswith("_s")])
def test_every_time_can_be_compared(column, output):
    assert column in sides.COMPARED
    number = TEXTS[column].rstrip(";").split()[-2 if ";" in TEXTS[column] else -1]
    assert number in output(f"compare --time {column}")


def test_the_details_leave_out_what_was_not_measured(tmp_path):
    page = tmp_path / "report.html"
    path = store(tmp_path / "x.csv", {"rounds": 3, "iterations": 2})
    done = run_bench("report", path, "-o", str(page))
    assert done.exit_code == 0, done.output
    found = re.findall(r'class="details"[^>]*>([^<]*)<', page.read_text("utf-8"))
    (line,) = [text for text in found if "rounds 3; iterations 2" in text]
    assert "first call" not in line
