"""Situations from public bug reports and files, with the right outcome.

The files under tests/cases hold values as published, without host names, commits and CPU flags.
"""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from bench.exchange import imports
from bench.measure import cgroup, visits
from bench.records import reader
from bench.records.reader import BadFile
from tests.helpers.command import run_bench

CASES = Path(__file__).parent / "cases"


def test_01_a_call_that_was_not_waited_for(tmp_path):
    """RMSNorm2 took 24.9 us in one round and 19.93 ms in most: the launch queue filled up."""
    rows = imports.pytest_benchmark(CASES / "01-missing-sync-import" / "baseline.json")
    assert [row.status for row in rows] == ["ok", "unstable"]
    assert "two levels" in rows[1].reason
    assert {row.dtype for row in rows} == {"float32"}
    later = imports.pytest_benchmark(CASES / "01-missing-sync-import" / "no-kernel.json")
    assert len(later) == 4
    both = []
    for name in ("baseline", "no-kernel"):
        both.append(tmp_path / f"{name}.csv")
        source = CASES / "01-missing-sync-import" / f"{name}.json"
        assert run_bench("import", source, "-o", both[-1]).exit_code == 0
    text = run_bench("compare", *both).output
    assert "459x" not in text
    assert "0.0443" not in text


@pytest.mark.parametrize(
    "path", sorted((CASES / "20-import-edges").glob("*.json")), ids=lambda p: p.stem
)
def test_20_an_import_ends_in_one_line_or_in_a_readable_csv(tmp_path, path):
    out = tmp_path / "out.csv"
    done = run_bench("import", path, "-o", out)
    if done.exit_code:
        assert done.exit_code == 2
        assert len(done.output.splitlines()) == 1
        assert not out.exists()
    else:
        assert len(reader.read(out)) == 4


def test_20_what_is_refused_names_the_entry():
    refused = {"empty": "holds no benchmark", "huge": "rounds", "twice": "benchmarks[4]"}
    for name, text in refused.items():
        with pytest.raises(BadFile) as problem:
            imports.pytest_benchmark(CASES / "20-import-edges" / f"{name}.json")
        assert text in str(problem.value)
    rows = imports.pytest_benchmark(CASES / "20-import-edges" / "errored.json")
    assert [row.status for row in rows] == ["ok", "error", "ok", "ok"]


def test_07_a_table_of_many_operations_is_not_silent():
    """On an M1, mps is faster in most groups, and loses in places."""
    text = run_bench("verdict", CASES / "07-mlx-tables" / "m1.csv", "--format=json").output
    (machine,) = json.loads(text)["machines"]
    found = machine["answers"]["device"]
    first = found[0]["text"]
    assert re.search(r"best: matmul .* 58x faster", first)
    assert any("worst: sumall dim0=1000000 6.1x slower" in one["text"] for one in found)
    plain = {
        one["subject"]["benchmark"]: one["text"] for one in found if one["topic"] == "benchmark"
    }
    assert "1.35x slower (axis=1" in plain["sort"]
    assert "1.71x slower (axis=0" in plain["sum"]


def test_08_one_tie_does_not_silence_a_sweep():
    """On an M1 Air, mps is slower for resnet50 at batch 1, 2 and 4, and about the same at 8."""
    path = CASES / "08-m1-air-cpu-wins" / "t1_m1air.csv"
    (machine,) = json.loads(run_bench("verdict", path, "--format=json").output)["machines"]
    found = machine["answers"]["device"]
    (group,) = (one["text"] for one in found if one["topic"] == "device group")
    assert "training 2.1x slower" in group
    (sweep,) = (one for one in found if one["subject"].get("benchmark") == "forward_resnet50")
    assert (sweep["advice"], sweep["ties"]) == ("slower", [8.0])
    assert sum(one.get("advice") == "error" for one in machine["answers"]["faults"]) == 8


def test_07_machines_of_unknown_hardware_are_not_called_alike(tmp_path):
    """Six Macs from an M1 to an M3 Ultra, eight times apart; the files do not name their CPU."""
    text = run_bench("compare", CASES / "07-mlx-tables", "--outliers").output
    assert "6 machines of unknown hardware are not compared" in text
    assert "alike" not in text


def test_17_cells_that_moved_together_are_no_regression():
    """Four of twelve cells are 26 % slower on another machine of the same CPU model."""
    folder = CASES / "17-same-cpu-other-vm"
    done = run_bench("check", folder / "candidate.csv", "--baseline", folder / "baseline.csv")
    assert done.exit_code == 3
    assert "4 of 12 cells on cpu in float32 became 26% slower together" in done.output
    assert "bench ab" in done.output
    assert "regressed" not in done.output


def test_24_a_throttled_cell_is_not_ok_and_the_quota_is_named(suite, monkeypatch):
    """Under a quota of 0.3 CPUs the process was stopped in 1038 of 1049 periods."""
    looks = itertools.cycle([cgroup.Throttling(0, 0, 0.0), cgroup.Throttling(1049, 1038, 72.6)])
    monkeypatch.setattr(cgroup, "limits", lambda: cgroup.Limits(cpus=0.3))
    # The tests that follow in this process keep their threads.
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(cgroup, "throttling", lambda: next(looks))
    monkeypatch.setattr(visits, "WIDEST", 1.5)
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    suite.run("--dtype=float32", "--benchmark-max-time=0.01")
    (row,) = suite.rows().itertuples()
    assert row.status == "unstable"
    assert "1038 of 1049 periods" in row.reason
    assert row.cpu_count == 1


def test_27_data_that_became_infinite_is_noticed(suite):
    suite.write("""
        def bench_grows(cell):
            cell(lambda x: x.mul_(1e6), cell.tensor(8), check=cell.unchecked)
    """)
    suite.run("--dtype=float32", "--benchmark-max-time=0.01")
    (row,) = suite.rows().itertuples()
    assert row.status == "wrong"
    assert "infinite or NaN" in row.reason


def test_a_file_of_pytest_benchmark_2_5_is_read():
    """One of the files in the tests of pytest-benchmark itself, of August 2015."""
    (row,) = imports.pytest_benchmark(CASES / "pytest-benchmark-2.5.0.json")
    assert (row.benchmark, row.params, row.status) == ("xfast_parametrized", "id=0", "ok")
    assert (row.rounds, row.iterations, row.median_s) == (9710, 431, 2.2016379230260297e-07)
    assert (row.cpu, row.python) == ("", "2.7.3")


@pytest.mark.parametrize(
    ("version", "params", "medians"),
    [
        ("3.0.0", ["id=1", "id=1000", ""], [5.210004e-07, 2.728650e-05, 1.284400e-07]),
        ("3.1.1", ["n=1", "n=1000", ""], [2.457250e-07, 2.729650e-05, 2.180833e-07]),
    ],
)
def test_a_file_of_pytest_benchmark_3_is_read(version, params, medians):
    """Written by these versions themselves, under Python 3.11 and pytest 6.2 with small shims."""
    rows = imports.pytest_benchmark(CASES / f"pytest-benchmark-{version}.json")
    assert [row.benchmark for row in rows] == ["sum", "sum", "group"]
    assert [row.params for row in rows] == params
    assert [row.median_s for row in rows] == pytest.approx(medians, rel=1e-5)
    assert {(row.status, row.cpu, row.rounds) for row in rows} == {("ok", "", 6)}
