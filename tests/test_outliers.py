"""`bench compare --outliers`: slow machines are found, in the right words, and none is invented."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.compare import outliers
from bench.records.writer import Writer
from bench.report import outliers as report
from tests.helpers.command import run_bench
from tests.helpers.fleets import fleet
from tests.helpers.frames import row


def sentences(rows):
    return report.markdown(outliers.find(rows)).replace("\\", "").split("\n\n")


@pytest.mark.integration
def test_a_uniform_fleet_has_none():
    """Of 100 fleets of sixteen equal machines, one with a machine named at most."""
    named = [any(f.outliers for f in outliers.find(fleet(16, seed))) for seed in range(100)]
    assert sum(named) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_node_is_found_and_what_it_is_slow_at(seed):
    lines = sentences(fleet(16, seed, slow=[("node-7", "host_to_device", 2**20, 1.38)]))
    assert len(lines) == 2
    assert lines[0] == "16 machines with a CPU, 4 threads: 1 differs from the rest"
    assert lines[1].startswith("- node-7: host_to_device on cpu from n=1048576 on ")
    assert lines[1].endswith("% slower than the other 15 (3 of 3 cells); the rest is normal")
    percent = int(lines[1].split(" on ")[-1].split()[0].rstrip("%"))
    assert 33 <= percent <= 43


def test_a_machine_that_is_slow_at_everything_is_reported_as_such():
    lines = sentences(fleet(16, slow=[("node-3", None, 0, 1.3)], outliers=0))
    assert len(lines) == 2
    assert lines[1].startswith("- node-3: everything on cpu ")
    assert "(41 of 41 cells)" in lines[1]


def test_a_machine_that_is_a_little_slow_at_everything_is_found_among_ten():
    """Its cells are five times their noise off, each too little to be named alone."""
    found = [sentences(fleet(10, seed, slow=[("node-3", None, 0, 1.10)])) for seed in range(20)]
    assert sum(line[1:][:1] != [] and "node-3: everything" in line[1] for line in found) >= 18


def test_machines_that_all_differ_a_little_are_not_named():
    """Thirty machines differ by 2 %: one by 5 % or so is no outlier, one by 30 % is."""
    for seed in range(2):
        source = np.random.default_rng(seed)
        slow = [(f"node-{n}", None, 0, np.exp(source.normal(0, 0.02))) for n in range(1, 30)]
        made = fleet(30, seed, slow=[*slow, ("node-0", None, 0, 1.3)])
        (found,) = outliers.find(made)
        assert {one.machine for one in found.outliers} == {"node-0"}


def test_two_machines_and_a_fast_one():
    slow = [("node-1", "matmul", 0, 1.5), ("node-2", "add", 0, 1.5), ("node-2", "step", 0, 1.4)]
    lines = sentences(fleet(16, slow=[*slow, ("node-4", "softmax", 0, 0.6)]))
    assert lines[0].endswith("3 differ from the rest")
    assert [line.split(":")[0] for line in lines[1:]] == ["- node-4", "- node-2", "- node-1"]
    assert "% faster than" in lines[1]
    assert lines[2].count("; ") == 2
    assert "add on cpu" in lines[2]
    assert "step on cpu" in lines[2]


def test_a_thousand_machines():
    slow = [("node-17", "host_to_device", 2**16, 1.38), ("node-503", "matmul", 0, 1.25)]
    lines = sentences(fleet(1000, slow=slow))
    assert lines[0] == "1000 machines with a CPU, 4 threads: 2 differ from the rest"
    assert "node-17: host_to_device on cpu from n=65536 on" in lines[1]
    assert "node-503: matmul on cpu 2" in lines[2]


def test_a_benchmark_of_one_cell_needs_several_runs():
    assert sentences(fleet(16, slow=[("node-1", "item", 0, 2.0)])) == [
        "16 machines with a CPU, 4 threads: all alike in 41 cells"
    ]
    lines = sentences(fleet(16, runs=3, slow=[("node-1", "item", 0, 2.0)], outliers=0))
    assert lines[1].startswith("- node-1: item on cpu 1")


def crowded(slow, machines=5, seed=1, **settings):
    """A fleet in which the first machine has ten runs and each of the others one."""
    rows = fleet(machines, seed, runs=10, outliers=0, slow=slow, **settings)
    return rows[(rows.machine == "node-0") | rows.run_id.str.endswith("-0")]


@pytest.mark.parametrize("seed", range(3))
def test_a_machine_of_many_runs_does_not_outvote_the_others(seed):
    lines = sentences(crowded([("node-0", None, 0, 3.0)], seed=seed))
    assert len(lines) == 2
    assert lines[1].startswith("- node-0: everything on cpu ")
    assert lines[1].endswith("of 41 cells)")


def test_a_cell_of_two_machines_is_not_judged_however_many_runs_they_have():
    rows = fleet(6, runs=10, slow=[("node-1", "item", 0, 2.0)], outliers=0)
    rows = rows[(rows.machine == "node-0") | rows.run_id.str[-2:].isin(["-0", "-1", "-2"])]
    few = rows[(rows.benchmark != "item") | rows.machine.isin(["node-0", "node-1"])]
    assert sentences(few) == ["6 machines with a CPU, 4 threads: all alike in 41 cells"]
    assert sentences(rows)[1].startswith("- node-1: item on cpu ")


def test_an_outlier_of_many_runs_does_not_hide_another():
    """Its ten runs are one outlier per cell to the others, not ten."""
    slow = [("node-0", "matmul", 0, 1.5), ("node-1", "add", 0, 1.5)]
    assert [line.split(" on ")[0] for line in sentences(crowded(slow, machines=16))[1:]] == [
        "- node-0: matmul",
        "- node-1: add",
    ]


def test_the_median_over_a_machine_s_runs_leaves_out_what_was_not_timed():
    gap = np.nan
    table = np.array([[1, 5, gap, 2, 9, 3, 4], [gap, gap, gap, 7, gap, gap, 6]])
    made = outliers._of_machines(table, np.array([*"aaabccc"]))
    np.testing.assert_array_equal(made, [[3, 2, 4], [gap, 7, 6]])


def test_other_hardware_is_another_fleet_and_a_few_are_none():
    here, there = fleet(8), fleet(6, seed=2, slow=[("node-1", "matmul", 0, 1.5)])
    there["cpu"] = there["device_name"] = "another CPU"
    there["machine"] = "x" + there.machine
    both = pd.concat([here, there], ignore_index=True)
    assert [line.split(":")[0] for line in sentences(both)] == [
        "8 machines with a CPU, 4 threads",
        "6 machines with another CPU, 4 threads",
        "- xnode-1",
    ]
    few = "outliers need 5 machines or more with the same hardware: there are fewer"
    assert sentences(fleet(4)) == [few]


@pytest.fixture
def stored(tmp_path):
    """A folder with a CSV for each of six machines."""
    rows = fleet(6, slow=[("node-2", "matmul", 0, 1.5)], outliers=0)
    columns = ["machine", "run_id", "benchmark", "params", "min_s", "median_s"]
    for name, own in rows.groupby("machine"):
        writer = Writer(tmp_path / f"{name}.csv")
        for each in own[columns].to_dict("records"):
            writer.append(row(**each))
        writer.close()
    return tmp_path


@pytest.mark.parametrize("format_", ["terminal", "markdown", "json"])
def test_the_command_reads_a_folder(stored, format_):
    words = ["compare", str(stored), "--outliers", "--format", format_]
    done = run_bench(*words)
    assert done.exit_code == 0, done.output
    if format_ == "json":
        (found,) = json.loads(done.output)
        assert [one["machine"] for one in found["outliers"]] == ["node-2"]
    else:
        assert "matmul" in done.output
        assert "node" in done.output


def test_a_format_it_has_not_is_one_line(stored):
    done = run_bench("compare", str(stored), "--outliers", "--format", "csv")
    assert done.exit_code == 2
    assert "--outliers --format: unknown 'csv'; known: terminal" in done.output


def test_what_a_filter_leaves_is_all_that_counts():
    """Neither machines nor devices that it took away."""
    rows = fleet(6)
    assert outliers.find(rows[rows.machine.isin(["node-1", "node-2"])]) == []
    untimed = rows.assign(status="error", reason="x", min_s=np.nan, median_s=np.nan)
    assert outliers.find(untimed) == []


def test_a_cell_that_is_wrong_in_one_run_of_a_machine_is_not_timed_there():
    rows = fleet(16, runs=3, slow=[("node-1", "item", 0, 2.0)], outliers=0)
    assert sentences(rows)[1].startswith("- node-1: item on cpu ")
    first = rows[(rows.machine == "node-1") & (rows.benchmark == "item")].index[0]
    rows.loc[first, "status"] = "wrong"
    assert sentences(rows) == ["16 machines with a CPU, 4 threads: all alike in 41 cells"]
