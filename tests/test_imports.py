"""Files of pytest-benchmark, of any suite and version, become rows."""

import json

import pytest

from bench.exchange import imports
from bench.records import reader
from bench.records.reader import BadFile
from tests.helpers.command import run_bench

#: What each storage version of pytest-benchmark since 2.5 has that others have not.
STORED = {
    "2.5": {"cpu": None, "entry": {}, "drop": ("ops", "total", "data")},
    "3.0": {"cpu": None, "entry": {"params": {"n": 8}, "param": "8"}, "drop": ("ops", "total")},
    "3.1": {"cpu": {"brand": "A CPU", "vendor_id": "x"}, "entry": {"params": {"n": 8}}, "drop": ()},
    "3.2": {"cpu": {"brand": "A CPU", "count": 4}, "entry": {"extra_info": {}}, "drop": ("data",)},
    "3.4": {"cpu": {"brand_raw": "A CPU", "count": 4}, "entry": {"options": {}}, "drop": ("data",)},
    "5.0": {"cpu": {"brand_raw": "A CPU"}, "entry": {"params": {"n": 8}}, "drop": ()},
}


@pytest.mark.parametrize("version", STORED)
def test_every_storage_version_is_read(tmp_path, version):
    stored = STORED[version]
    stats = {
        "min": 1e-3,
        "max": 2e-3,
        "mean": 1.4e-3,
        "stddev": 1e-4,
        "rounds": 5,
        "median": 1.4e-3,
    }
    stats |= {"iqr": 2e-4, "q1": 1.3e-3, "q3": 1.5e-3, "iqr_outliers": 0, "stddev_outliers": 1}
    stats |= {"outliers": "1;0", "ld15iqr": 1e-3, "hd15iqr": 2e-3, "iterations": 1, "ops": 700.0}
    stats |= {"total": 7e-3, "data": [1e-3, 1.3e-3, 1.4e-3, 1.5e-3, 2e-3]}
    kept = {name: value for name, value in stats.items() if name not in stored["drop"]}
    entry = {"group": None, "name": "test_a[8]", "fullname": "t.py::test_a[8]", "stats": kept}
    machine = {"node": "host", "machine": "x86_64", "python_version": "3.6.0", "system": "Linux"}
    machine |= {"cpu": stored["cpu"]} if stored["cpu"] else {}
    (row,) = imported(
        tmp_path / "x.json",
        entry | stored["entry"],
        machine_info=machine,
        commit_info={"id": "6c2c4ad0f1e2", "dirty": False},
        datetime="2016-01-01T00:00:00",
        version=version,
    )
    assert (row.status, row.rounds, row.median_s) == ("ok", 5, pytest.approx(1.4e-3))
    assert row.params in ("n=8", "id=8")
    assert row.cpu == ("A CPU" if stored["cpu"] else "")
    assert row.suite_version == "commit 6c2c4ad0f1e2"


def imported(path, *entries, **whole):
    stats = {"median": 1e-3}
    made = [{"name": "test_a", "fullname": "t.py::test_a", "stats": stats} | one for one in entries]
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": made} | whole))
    return imports.pytest_benchmark(path)


def test_dtypes_and_devices_of_other_suites_are_known(tmp_path):
    (row,) = imported(
        tmp_path / "x.json",
        {
            "name": "test_a[x]",
            "fullname": "t.py::test_a[x]",
            "params": {
                "dtype": "UNSERIALIZABLE[torch.float16]",
                "device": "UNSERIALIZABLE[device(type='cuda', index=0)]",
                "dtype_str": "float32",
                "shape": [2, 3],
            },
        },
    )
    assert (row.device, row.dtype, row.params) == (
        "cuda:0",
        "float16",
        "dtype_str=float32;shape=(2,3)",
    )


def test_objects_of_other_suites_join_in_a_second_run(tmp_path):
    def one(address):
        return imported(
            tmp_path / f"{address}.json",
            {
                "name": "test_a[fn0-8]",
                "fullname": "t.py::test_a[fn0-8]",
                "params": {"fn": f"UNSERIALIZABLE[<object object at 0x7f{address}>]", "n": 8},
            },
        )[0].params

    assert one("aaa") == one("bbb") == "id=fn0-8;n=8"


@pytest.mark.parametrize(
    ("cpu", "brand", "count"),
    [
        ({"brand_raw": "A", "count": 8}, "A", 8),
        ({"brand_raw": "A", "family": 25, "model": 1, "stepping": 1}, "A 25-1-1", None),
        ({"brand": "B", "vendor_id": "x"}, "B", None),
        ({"hardware": "unknown", "brand": "C"}, "C", None),
        ("i5", "i5", None),
        ({}, "", None),
        (None, "", None),
    ],
)
def test_every_form_of_the_cpu_is_read(tmp_path, cpu, brand, count):
    (row,) = imported(tmp_path / "x.json", {}, machine_info={"cpu": cpu})
    assert (row.cpu, row.cpu_count) == (brand, count)


def test_the_commit_is_kept(tmp_path):
    info = {"id": "6c2c4ad0f1e2b3a4", "dirty": True}
    (row,) = imported(tmp_path / "x.json", {}, commit_info=info)
    assert row.suite_version == "commit 6c2c4ad0f1e2+"


def test_quantiles_and_interval_come_from_the_rounds_of_the_file(tmp_path):
    data = [k * 1e-3 for k in range(10, 20)]
    (row,) = imported(tmp_path / "x.json", {"stats": {"data": data, "iterations": 3}})
    assert (row.min_s, row.median_s, row.max_s) == (0.010, pytest.approx(0.0145), 0.019)
    assert (row.rounds, row.iterations) == (10, 3)
    assert row.ci_low_s is not None
    assert row.ci_low_s < row.median_s < row.ci_high_s


@pytest.mark.parametrize(
    "stats",
    [
        {"min": 25e-6, "q1": 19.9e-3, "median": 19.93e-3, "q3": 19.95e-3},
        {"min": 2e-3, "median": 1e-3},
        {"q1": 1e-3, "median": 1.2e-3, "q3": 9e-3},
        {"median": 0.0},
    ],
)
def test_statistics_that_contradict_each_other_are_unstable(tmp_path, stats):
    (row,) = imported(tmp_path / "x.json", {"stats": stats})
    assert row.status == "unstable"
    assert row.reason


def test_a_long_param_is_known_by_its_id(tmp_path):
    (row,) = imported(
        tmp_path / "x.json",
        {
            "name": "test_a[data0]",
            "fullname": "t.py::test_a[data0]",
            "params": {"data": [0] * 3000},
        },
    )
    assert row.params == "id=data0"


@pytest.mark.parametrize(
    ("whole", "tool"),
    [
        ({"results": {}, "commit_hash": "a", "params": {}}, "asv"),
        ({"benchmarks": [{"runs": []}], "metadata": {}, "version": "1.0"}, "pyperf"),
        ({"context": {}, "benchmarks": [{"name": "BM_a", "real_time": 1.0}]}, "google-benchmark"),
        ({"results": [{"command": "sleep 1", "mean": 1.0}]}, "hyperfine"),
        ({"meta": {}, "devices": [], "benchmarks": [{"states": []}]}, "nvbench"),
    ],
)
def test_files_of_other_tools_are_named(tmp_path, whole, tool):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(BadFile, match=f"a file of {tool}"):
        imports.pytest_benchmark(path)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(BadFile, match="holds no benchmark"):
        imported(tmp_path / "x.json")


def test_folders_and_several_files_are_imported_into_one_csv(tmp_path):
    folder = tmp_path / "stored"
    (folder / "Linux").mkdir(parents=True)
    for number in range(3):
        imported(folder / "Linux" / f"000{number}.json", {}, datetime=f"2026-01-0{number + 1}")
    (folder / "copy.json").write_bytes((folder / "Linux" / "0000.json").read_bytes())
    out = tmp_path / "out.csv"
    done = run_bench("import", folder, "-o", out, "--machine", "mine")
    assert done.exit_code == 0
    assert "the same run as in another file" in done.output
    frame = reader.read(out)
    assert frame.run_id.nunique() == 3
    assert set(frame.machine) == {"mine"}
    assert run_bench("import", folder, "-o", tmp_path / "x.csv", "--machine", "a b").exit_code == 2
    assert run_bench("import", tmp_path / "none", "-o", tmp_path / "x.csv").exit_code == 2


def test_machines_without_a_known_cpu_stay_apart(tmp_path):
    one, two = (
        imported(tmp_path / "x.json", {}, machine_info={"node": node, "machine": "x86_64"})[0]
        for node in ("host-a", "host-b")
    )
    assert one.machine != two.machine
    assert "host" not in one.machine


def test_history_names_the_commit_of_a_change_and_check_takes_folders(tmp_path):
    """Sixteen imported runs of one machine; from the ninth on, a commit made the cell slower."""
    folder = tmp_path / "stored"
    folder.mkdir()
    for run in range(16):
        seconds = (1e-3 if run < 8 else 1.5e-3) * (1 + 0.001 * (run % 3))
        imported(
            folder / f"{run:04}.json",
            {"stats": {"min": seconds, "median": seconds, "rounds": 5, "iterations": 1}},
            machine_info={"cpu": {"brand_raw": "A CPU"}},
            commit_info={"id": ("a" if run < 8 else "b") * 12},
            datetime=f"2026-01-{run + 1:02}T00:00:00+00:00",
        )
    every = tmp_path / "every.csv"
    assert run_bench("import", folder, "-o", every).exit_code == 0
    text = " ".join(run_bench("history", every).output.split())
    assert text.startswith("a-cpu: 1 cell in 16 runs from ")
    assert "suite_version commit aaaaaaaaaaaa -> commit bbbbbbbbbbbb" in text
    for name, runs in (("old", range(8)), ("rest", range(3, 8)), ("new", range(8, 16))):
        (tmp_path / name).mkdir()
        for run in runs:
            out = tmp_path / name / f"{run}.csv"
            run_bench("import", folder / f"{run:04}.json", "-o", out)
    done = run_bench("check", tmp_path / "new", "--baseline", tmp_path / "old")
    assert done.exit_code == 1, done.output
    both = ["--baseline", tmp_path / "old" / "0.csv", "--baseline", tmp_path / "old" / "1.csv"]
    done = run_bench("check", tmp_path / "rest", *both, "--baseline", tmp_path / "old" / "2.csv")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(("mean", "status"), [(4e-3, "unstable"), (2.2e-4, "ok")])
def test_a_few_rounds_that_took_most_of_the_time_are_a_second_level(tmp_path, mean, status):
    """100 rounds: 20 of them of 20 ms, or a single one, as of a cold start."""
    stats = {"min": 2e-5, "q1": 2.1e-5, "median": 2.1e-5, "q3": 2.2e-5, "max": 2e-2, "mean": mean}
    (row,) = imported(tmp_path / "x.json", {"stats": stats | {"rounds": 100, "iterations": 1}})
    assert row.status == status


@pytest.mark.parametrize(
    ("entry", "cell"),
    [
        ({"params": {"dtype": "fp16", "device": "CUDA", "n": 4}}, ("cuda", "float16", "n=4")),
        ({"params": {"dtype": "torch.half", "n": 4}}, ("unknown", "float16", "n=4")),
        ({"extra_info": {"device": "mps:0", "dtype": "torch.bfloat16"}}, ("mps:0", "bfloat16", "")),
        ({"params": {"dtype": "double"}, "extra_info": {"dtype": "x"}}, ("unknown", "float64", "")),
        ({"params": {"dtype": "fast"}}, ("unknown", "unknown", "dtype=fast")),
    ],
)
def test_dtype_and_device_have_one_name_wherever_they_are(tmp_path, entry, cell):
    (row,) = imported(tmp_path / "x.json", entry)
    assert (row.device, row.dtype, row.params) == cell
