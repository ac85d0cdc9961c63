"""Other tools' formats: round trips, and their own programs where they are installed."""

import json
import shutil
import subprocess
import sys

import pytest
from frames import frame
from test_compare import store
from typer.testing import CliRunner

from bench import cli
from bench.exchange import exports, imports
from bench.records import reader

TIMES = {
    **{"rounds": 9, "iterations": 5, "min_s": 1e-3, "q1_s": 1.1e-3, "median_s": 1.2e-3},
    **{"q3_s": 1.3e-3, "max_s": 2e-3, "mean_s": 1.25e-3, "stddev_s": 1e-4},
    **{"ci_low_s": 1.15e-3, "ci_high_s": 1.25e-3},
}
ROWS = (
    {"params": "dim=0;n=16", **TIMES},
    {"params": "dim=1;n=16", **TIMES, "dtype": "float16"},
    {"benchmark": "broken", "status": "wrong", "reason": "off"},
)


def test_a_round_trip_through_pytest_benchmark_keeps_cells_and_times(tmp_path):
    path = tmp_path / "out.json"
    path.write_text(exports.pytest_benchmark(frame(*ROWS)))
    back = imports.pytest_benchmark(path)
    assert [(r.benchmark, r.device, r.dtype, r.params) for r in back] == [
        ("cat", "cpu", "float32", "dim=0;n=16"),
        ("cat", "cpu", "float16", "dim=1;n=16"),
    ]
    for name in ("rounds", "iterations", "min_s", "q1_s", "median_s", "q3_s", "max_s", "mean_s"):
        assert getattr(back[0], name) == TIMES[name]


def test_pytest_benchmark_reads_what_is_exported(tmp_path):
    path = tmp_path / "0001_x.json"
    path.write_text(exports.pytest_benchmark(frame(*ROWS)))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bench_cat[cpu-float32-dim=0-n=16]" in done.stdout


def test_what_pytest_benchmark_writes_is_imported(tmp_path, suite):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    suite.run("--profile", "smoke", "--dtype", "float32", "--benchmark-json=out.json")
    out = tmp_path / "out.csv"
    words = ["import", str(suite.pytester.path / "out.json"), "-o", str(out)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    (got,) = reader.read(out).itertuples()
    (mine,) = suite.rows().itertuples()
    assert (got.benchmark, got.device, got.dtype) == ("neg", "cpu", "float32")
    assert got.median_s == pytest.approx(mine.median_s)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "the whole is missing or of another kind"),
        ('{"machine_info": {}, "benchmarks": [{"name": "x"}]}', "benchmarks[0].stats is missing"),
        (
            '{"machine_info": {}, "benchmarks": [{"name": "x", "stats": {"min": NaN}}]}',
            "benchmarks[0].stats.min is nan",
        ),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "x.json"
    path.write_text(text)
    done = CliRunner().invoke(cli.app, ["import", str(path), "-o", str(tmp_path / "x.csv")])
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()


def test_go_lines_are_what_benchstat_parses(tmp_path):
    text = exports.go(frame(*ROWS))
    lines = [line for line in text.splitlines() if line.startswith("Benchmark")]
    assert lines == [
        "BenchmarkCat/device=cpu/dtype=float32/dim=0/n=16 45 1.2e+06 ns/op",
        "BenchmarkCat/device=cpu/dtype=float16/dim=1/n=16 45 1.2e+06 ns/op",
    ]
    benchstat = shutil.which("benchstat")
    if not benchstat:
        pytest.skip("benchstat is not installed")
    path = tmp_path / "x.txt"
    path.write_text(text)
    done = subprocess.run([benchstat, str(path)], capture_output=True, text=True, check=True)
    assert "1.200m" in done.stdout


def test_bencher_and_github_action_benchmark():
    made = json.loads(exports.bencher(frame(*ROWS)))
    latency = made["bench_cat[cpu-float32-dim=0-n=16]"]["latency"]
    assert latency["value"] == pytest.approx(1.2e6)
    assert latency["lower_value"] < latency["value"] < latency["upper_value"]
    first, second = json.loads(exports.smaller_is_better(frame(*ROWS)))
    assert first["unit"] == "s"
    assert first["value"] == 1.2e-3
    assert first["range"] == "± 5e-05"
    assert second["name"] == "bench_cat[cpu-float16-dim=1-n=16]"


@pytest.mark.parametrize("format_", exports.FORMATS)
def test_every_format_is_written_from_the_command(tmp_path, format_):
    path = store(tmp_path / "x.csv", *ROWS)
    out = tmp_path / "out"
    done = CliRunner().invoke(cli.app, ["export", path, "--format", format_, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "cat" in out.read_text().lower()
    done = CliRunner().invoke(cli.app, ["export", path, "--format", "xml"])
    assert done.exit_code == 2
    assert "unknown 'xml'; known: pytest-benchmark" in done.output
