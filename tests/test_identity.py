"""One identity of a cell: in the CSV, in pytest-benchmark's JSON, in exports and imports."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compare import files
from bench.exchange import exports, imports
from bench.records import params as words
from bench.records import reader, schema
from tests.helpers.command import run_bench
from tests.helpers.frames import frame

CASES = Path(__file__).parent / "cases"
IDENTITY = ["run_id", *schema.CELL, "status"]


def cells(frame):
    return set(frame[list(schema.CELL)].itertuples(index=False, name=None))


OWN = """
    import functools

    class Act(torch.nn.Module):
        def forward(self, x):
            return x.relu()

    @pytest.mark.parametrize("act", [Act(), Act()])
    def bench_modules(cell, act):
        cell(act, cell.tensor(4))

    @pytest.mark.parametrize(
        argnames="sizes", argvalues=[{"n": 4}, pytest.param({"n": 8}, id="large")]
    )
    def bench_dicts(cell, sizes):
        cell(torch.neg, cell.tensor(sizes["n"]))

    @pytest.mark.parametrize("fn", [torch.relu, pytest.param(lambda x: -x, id="minus")])
    @pytest.mark.parametrize("text", ["a;b=c", "100 %"])
    @pytest.mark.parametrize("kind", [torch.float16])
    def bench_values(cell, fn, text, kind):
        cell(fn, cell.tensor(4))
"""


@pytest.fixture
def own(suite):
    suite.write(OWN)
    done = suite.run("--profile=smoke", "--dtype=float32", "--benchmark-json=native.json")
    assert done.ret == 0
    return suite, done


def test_values_of_any_kind_have_a_stable_word(own):
    suite, done = own
    params = set(suite.rows().params)
    assert {"sizes=sizes0", "sizes=large"} <= params  # a dict has an attribute `values`, too
    assert {"act=act0", "act=act1", "fn=minus;kind=float16;text=100 %25"} <= params
    assert "fn=relu;kind=float16;text=a%3Bb%3Dc" in params
    assert not any("0x" in text for text in params)
    done.stdout.fnmatch_lines(["bench_modules: values of 'act' have no name and are recorded as*"])


def test_a_native_file_an_export_and_a_csv_join_in_all_cells(own, tmp_path):
    suite, _ = own
    (csv,) = suite.files()
    native, exported = suite.pytester.path / "native.json", tmp_path / "exported.json"
    exported.write_text(exports.pytest_benchmark(files.read([str(csv)])))
    for number, source in enumerate((native, exported)):
        out = tmp_path / f"{number}.csv"
        assert run_bench("import", source, "-o", out).exit_code == 0
        pair = reader.read(out)
        assert cells(pair) == cells(suite.rows())
        assert set(pair.status) == set(suite.rows().status)
        assert sorted(pair.median_s) == pytest.approx(sorted(suite.rows().median_s))


@pytest.mark.parametrize("values", ["[1, '1']", "[float('nan'), float('nan')]"])
def test_values_that_print_alike_are_refused_before_anything_is_timed(suite, values):
    suite.write(f"""
        @pytest.mark.parametrize("n", {values})
        def bench_it(cell, n):
            cell(torch.neg, cell.tensor(4))
    """)
    done = suite.run("--profile=smoke")
    assert done.ret == 4
    done.stderr.fnmatch_lines(["*have the same params in the results (n=*give each its own name*"])
    assert not suite.files()


def test_every_status_comes_back_from_a_native_file(suite, tmp_path, monkeypatch):
    suite.write("""
        @pytest.mark.parametrize("what", ["ok", "refused", "broken"])
        def bench_it(cell, what):
            if what == "refused":
                raise NotImplementedError("not here")
            if what == "broken":
                raise ValueError("broken")
            cell(torch.neg, cell.tensor(4))
    """)
    suite.run("--profile=smoke", "--dtype=float32")
    (csv,) = suite.files()
    exported = tmp_path / "x.json"
    exported.write_text(exports.pytest_benchmark(files.read([str(csv)])))
    back = tmp_path / "x.csv"
    assert run_bench("import", exported, "-o", back).exit_code == 0
    before, after = suite.rows(), reader.read(back)
    columns = [name for name in schema.COLUMNS if name != "schema_version"]
    order = ["benchmark", "params"]
    assert (
        after.sort_values(order)[columns]
        .reset_index(drop=True)
        .astype(str)
        .equals(before.sort_values(order)[columns].reset_index(drop=True).astype(str))
    )
    assert set(after.status) == {"ok", "unsupported", "error"}


@pytest.mark.integration
def test_pytest_benchmark_fails_against_an_exported_baseline(suite, tmp_path):
    """The baseline is the export of a CSV whose cell was a millionth as long: any run is slower."""
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    suite.run("--profile=smoke", "--dtype=float32", "--benchmark-json=native.json")
    (csv,) = suite.files()
    frame = files.read([str(csv)])
    times = [name for name in schema.FLOATS if name.endswith("_s")]
    frame[times] = frame[times] / 1e6
    exported = json.loads(exports.pytest_benchmark(frame))
    native = json.loads((suite.pytester.path / "native.json").read_text())
    baseline = tmp_path / "baseline.json"
    # The name is that of pytest in both, so that pytest-benchmark pairs them.
    exported["benchmarks"][0]["fullname"] = native["benchmarks"][0]["fullname"]
    baseline.write_text(json.dumps(exported))
    done = suite.run(
        *("--profile=smoke", "--dtype=float32", f"--benchmark-compare={baseline}"),
        "--benchmark-compare-fail=median:5%",
    )
    assert done.ret != 0
    done.stderr.fnmatch_lines(["*Performance has regressed*"])


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@pytest.mark.integration
@given(params=st.dictionaries(WORDS, WORDS, max_size=3), status=st.sampled_from(schema.STATUSES))
@settings(max_examples=60, deadline=None)
def test_any_params_and_status_come_back_through_json(tmp_path_factory, params, status):
    timed = status in ("ok", "unstable", "wrong", "fallback")
    joined = words.join(params)
    rows = frame({"params": joined, "status": status, "median_s": 1e-3 if timed else None})
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(exports.pytest_benchmark(rows), encoding="utf-8")
    (row,) = imports.pytest_benchmark(path)
    assert (row.params, row.status) == (joined, status)
    assert words.split(row.params) == params


def test_fullnames_of_exports_are_pytests_own(tmp_path):
    (entry,) = json.loads(
        exports.pytest_benchmark(frame({"benchmark": "add", "params": "form=in_place;n=16"}))
    )["benchmarks"]
    assert entry["fullname"] == (
        "bench/suite/tensors/bench_inplace.py::bench_add[cpu-float32-n16-in_place]"
    )
    assert entry["params"] == {"device": "cpu", "dtype": "float32", "form": "in_place", "n": 16}


def test_verdict_check_and_history_name_the_family_of_cells_of_one_name(tmp_path):
    """Four files have a test of the same name, without a device and a dtype."""
    from tests.helpers.frames import store

    rows = [
        {"family": f"tests/test_{family}.py", "benchmark": "same", "device": "unknown"}
        | {"dtype": "unknown", "run_id": f"r{run}", "status": "wrong", "reason": "off"}
        for family in "abcd"
        for run in range(3)
    ]
    path = store(tmp_path / "x.csv", *rows)
    text = " ".join(run_bench("verdict", path).output.split())
    assert all(f"tests/test_{family}.py same" in text for family in "abcd")
    ok = [row | {"status": "ok", "reason": "", "min_s": 1e-3} for row in rows]
    slow = [row | {"min_s": 2e-3, "median_s": 2e-3} for row in ok]
    sides = [store(tmp_path / f"{name}.csv", *side) for name, side in (("old", ok), ("new", slow))]
    text = run_bench("check", sides[1], "--baseline", sides[0], "--format", "markdown").output
    assert all(f"test\\_{family}.py same" in text for family in "abcd")
    text = run_bench("history", sides[0], "--all", "--where", "benchmark=same").output
    assert all(f"tests/test_{family}.py same" in text for family in "abcd")
