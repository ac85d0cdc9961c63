"""Other tools' formats: round trips, and their own programs where they are installed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.compare import files
from bench.exchange import exports
from bench.records import reader
from bench.records.writer import CannotWrite, Writer
from tests.helpers.command import run_bench
from tests.helpers.frames import frame, store

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
STATS = dict.fromkeys(("min", "q1", "median", "q3", "max", "mean"), 1e-3)
STATS |= {"stddev": 0.0, "rounds": 5, "iterations": 1}


def of_pytest(path, *fullnames, cpu="a CPU", datetime="2026-01-01T00:00:00.123456+00:00"):
    """A file of --benchmark-json with tests of these names, one millisecond each."""
    entries = [
        {"fullname": full, "name": full.rpartition("::")[2], "params": None, "stats": STATS}
        for full in fullnames
    ]
    machine = {"cpu": {"brand_raw": cpu}, "python_version": "3.12.0"}
    whole = {"machine_info": machine, "benchmarks": entries, "datetime": datetime}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(whole))
    return path


def spread(median):
    """Statistics in order, with an interval around this median."""
    times = {"min_s": 0.1 * median, "q1_s": 0.1 * median, "median_s": median}
    return times | {"q3_s": 2 * median, "max_s": 3 * median}


def three_runs(**columns):
    """A cell in three runs of 1, 2 and 4 ms."""
    return [{"run_id": f"r{k}", **TIMES, **spread(2**k * 1e-3), **columns} for k in range(3)]


@pytest.mark.integration
def test_pytest_benchmark_reads_what_is_exported(tmp_path):
    path = tmp_path / "0001_x.json"
    path.write_text(exports.pytest_benchmark(frame(*ROWS)))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bench_cat[cpu-float32-dim=0-n=16]" in done.stdout


def test_several_runs_make_the_way_there_and_back(tmp_path):
    made, back = tmp_path / "x.json", tmp_path / "back.csv"
    rows = [*three_runs(threads=None), *three_runs(threads=None, benchmark="neg")]
    path = store(tmp_path / "x.csv", *rows)
    assert run_bench("export", path, "--format", "pytest-benchmark", "-o", made).exit_code == 0
    done = run_bench("import", made, "-o", back)
    assert done.exit_code == 0, done.output
    before, after = reader.read(Path(path)), reader.read(back)
    columns = [*exports.KEPT, "status", *TIMES]
    assert after[columns].equals(before[columns])
    assert list(after.run_id.unique()) == ["r0", "r1", "r2"]


def test_one_name_in_two_files_or_classes_stays_apart(tmp_path):
    names = ("t/test_a.py::test_x", "t/test_b.py::test_x", "t/test_b.py::TestC::test_x", "test_x")
    path, out = of_pytest(tmp_path / "x.json", *names), tmp_path / "x.csv"
    done = run_bench("import", path, "-o", out)
    assert done.exit_code == 0, done.output
    rows = reader.read(out)
    assert list(rows.benchmark) == ["x"] * 4
    assert list(rows.family) == ["t/test_a.py", "t/test_b.py", "t/test_b.py::TestC", "imported"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.py::test_x", "a.py::test_x"], "benchmarks[1] is the same benchmark with the same"),
        (["a.py::test_x", "a.py::bench_x"], "as benchmarks[0], 'a.py::bench_x'"),
        (["a.py::"], "benchmarks[0] as a row, line 1, column benchmark: blank"),
    ],
)
def test_what_no_reader_takes_is_not_written(tmp_path, names, message):
    done = run_bench("import", of_pytest(tmp_path / "x.json", *names), "-o", tmp_path / "x.csv")
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()


def test_files_of_one_name_are_runs_of_their_own(tmp_path):
    paths = [
        of_pytest(tmp_path / "a" / "0001_base.json", "test_x"),
        of_pytest(tmp_path / "b" / "0001_base.json", "test_x", cpu="another"),
        of_pytest(tmp_path / "c" / "0001_base.json", "test_x", datetime="2026-01-02"),
        of_pytest(tmp_path / "a" / "copy.json", "test_x"),
    ]
    for path in paths:
        assert run_bench("import", path, "-o", path.with_suffix(".csv")).exit_code == 0
    a, b, c, copy = (reader.read(path.with_suffix(".csv")).run_id[0] for path in paths)
    assert len({a, b, c}) == 3
    assert copy == a
    words = [str(path.with_suffix(".csv")) for path in paths[:3]]
    assert len(files.read(words)) == 3


def test_what_another_suite_does_not_record_is_blank(tmp_path):
    out = tmp_path / "x.csv"
    assert run_bench("import", of_pytest(tmp_path / "x.json", "test_x"), "-o", out).exit_code == 0
    (row,) = reader.read(out)[["cpu_count", "memory_bytes", "threads"]].to_numpy().tolist()
    assert all(map(pd.isna, row))


def test_a_file_that_is_there_is_kept_and_another_asked_for(tmp_path):
    out = tmp_path / "x.csv"
    out.write_text("mine")
    done = run_bench("import", of_pytest(tmp_path / "x.json", "test_x"), "-o", out)
    assert done.exit_code == 2
    assert done.output == f"bench: cannot write {out}: File exists; name another file with -o\n"
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "the whole is missing or of another kind"),
        ('{"machine_info": {}, "benchmarks": [{"name": "x"}]}', "benchmarks[0].stats is missing"),
        (
            '{"machine_info": {}, "benchmarks": [{"name": "x", "stats": {"median": NaN}}]}',
            "benchmarks[0].stats.median is nan",
        ),
        (
            '{"machine_info": {}, "benchmarks": [{"name": "x", "stats": {"median": 1%s}}]}'
            % ("0" * 400),
            "benchmarks[0].stats.median is inf",
        ),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    done = run_bench("import", str(path), "-o", str(tmp_path / "x.csv"))
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.integration
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


def test_go_repeats_its_configuration_when_it_changes():
    text = exports.go(
        frame({}, {"dtype": "float16"}, {"machine": "there", "run_id": "b", "os": "Darwin 25"})
    )
    assert text.splitlines() == [
        *("goos: linux", "cpu: a CPU", "machine: here"),
        "BenchmarkCat/device=cpu/dtype=float32 1 1e+06 ns/op",
        "BenchmarkCat/device=cpu/dtype=float16 1 1e+06 ns/op",
        *("goos: darwin", "machine: there"),
        "BenchmarkCat/device=cpu/dtype=float32 1 1e+06 ns/op",
    ]
    text = exports.go(frame({"torch": "2.10.0"}, {"run_id": "b"}))
    assert [line for line in text.splitlines() if "torch" in line] == [
        *("torch: 2.10.0", "torch: 2.11.0")
    ]


@pytest.mark.parametrize("format_", ["pytest-benchmark", "bencher", "smaller-is-better"])
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("machine", "there", "machine differs (here, there)"),
        ("threads", None, "threads differs (blank, 4)"),
    ],
)
def test_a_format_that_holds_one_machine_refuses_two(tmp_path, format_, column, value, message):
    path = store(tmp_path / "x.csv", {}, {column: value, "run_id": "b"})
    done = run_bench("export", path, "--format", format_)
    assert done.exit_code == 2
    assert f"bench: --format {format_}: " in done.output
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_the_family_is_in_names_that_would_be_alike():
    rows = frame({}, {"family": "loading"}, {"family": "loading", "benchmark": "neg"})
    names = ["tensors/bench_cat[cpu-float32]", "loading/bench_cat[cpu-float32]"]
    names += ["bench_neg[cpu-float32]"]
    assert list(json.loads(exports.bencher(rows))) == names
    assert [one["name"] for one in json.loads(exports.smaller_is_better(rows))] == names
    full = [one["fullname"] for one in json.loads(exports.pytest_benchmark(rows))["benchmarks"]]
    assert len(set(full)) == 3
    first, second, third = (line for line in exports.go(rows).splitlines() if "Bench" in line)
    assert first.startswith("BenchmarkCat/family=tensors/device=cpu/")
    assert second.startswith("BenchmarkCat/family=loading/device=cpu/")
    assert third.startswith("BenchmarkNeg/device=cpu/")
    with pytest.raises(exports.CannotExport, match="2 cells would have the name"):
        exports.bencher(frame({"params": "a=1-b=2"}, {"params": "a=1;b=2"}))


def test_a_format_with_one_entry_a_name_gets_one_estimate_over_the_runs():
    # A cell that is wrong in one of its runs is not exported.
    wrong = [{"benchmark": "neg", "run_id": "r0"}, {"benchmark": "neg", "status": "wrong"}]
    rows = frame(*three_runs(), *wrong)
    (latency,) = json.loads(exports.bencher(rows)).values()
    assert latency["latency"]["value"] == pytest.approx(2e6)
    assert latency["latency"]["lower_value"] < 1e6  # three runs so far apart give a wide interval
    (entry,) = json.loads(exports.smaller_is_better(rows))
    assert entry["value"] == pytest.approx(2e-3)
    assert entry["extra"] == "here, torch 2.11.0, 4 threads, 3 runs"


def test_pytest_benchmark_is_given_no_figure_that_nobody_measured():
    quiet = TIMES | {"q1_s": 1.19e-3, "q3_s": 1.21e-3}
    rows = frame(quiet, {"dtype": "float16", "cpu_count": None}, {"dtype": "int8", "os": "BSD 1"})
    whole = json.loads(exports.pytest_benchmark(rows))
    full, bare, _ = (entry["stats"] for entry in whole["benchmarks"])
    # Of rounds beyond the fences no more is known than that they are there.
    assert full["outliers"] == ""
    assert full["ld15iqr"] == pytest.approx(1.19e-3 - 1.5 * 2e-5)
    assert full["hd15iqr"] == pytest.approx(1.21e-3 + 1.5 * 2e-5)
    assert bare["rounds"] == 1
    assert {bare[name] for name in ("min", "median", "max", "mean")} == {1e-3}
    # Rows that differ do not speak for each other.
    assert whole["machine_info"]["system"] == ""
    assert "count" not in whole["machine_info"]["cpu"]
    assert "options" not in whole["benchmarks"][0]


def test_pytest_benchmark_is_given_the_whole_name_of_a_param_with_colons():
    rows = frame({"family": "mine", "benchmark": "x", "params": "k=a::b"})
    (entry,) = json.loads(exports.pytest_benchmark(rows))["benchmarks"]
    assert entry["fullname"] == "bench/mine::bench_x[cpu-float32-k=a::b]"
    assert entry["name"] == "bench_x[cpu-float32-k=a::b]"


def test_bencher_and_github_action_benchmark():
    made = json.loads(exports.bencher(frame(*ROWS)))
    latency = made["bench_cat[cpu-float32-dim=0-n=16]"]["latency"]
    assert latency["value"] == pytest.approx(1.2e6)
    assert latency["lower_value"] < latency["value"] < latency["upper_value"]
    first, second = json.loads(exports.smaller_is_better(frame(*ROWS)))
    assert first["unit"] == "s"
    assert first["value"] == pytest.approx(1.2e-3)
    assert first["range"] == "± 5e-05"
    assert second["name"] == "bench_cat[cpu-float16-dim=1-n=16]"


@pytest.mark.parametrize("format_", exports.FORMATS)
def test_every_format_is_written_from_the_command(tmp_path, format_):
    path = store(tmp_path / "x.csv", *ROWS)
    out = tmp_path / "out"
    done = run_bench("export", path, "--format", format_, "-o", str(out))
    assert done.exit_code == 0, done.output
    assert "cat" in out.read_text().lower()
    done = run_bench("export", path, "--format", "xml")
    assert done.exit_code == 2
    assert "unknown 'xml'; known: pytest-benchmark" in done.output


def test_an_import_that_fails_leaves_no_file(tmp_path, monkeypatch):
    def full(self, row):
        raise CannotWrite("the disk is full")

    monkeypatch.setattr(Writer, "append", full)
    done = run_bench(
        "import", of_pytest(tmp_path / "x.json", "test_x"), "-o", tmp_path / "new" / "x.csv"
    )
    assert done.exit_code == 2
    assert "the disk is full" in done.output
    assert list((tmp_path / "new").iterdir()) == []
