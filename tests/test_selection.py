"""Profiles, options and files choose the cells of a run."""

import pytest

from bench.measure import profiles
from bench.plugin import collection
from bench.plugin.options import SUITE
from bench.records import reader

#: Each test runs a session of pytest.
pytestmark = pytest.mark.integration


def test_ids_params_and_identity(suite):
    suite.write("""
    @pytest.mark.parametrize("layout", ["wide"])
    @pytest.mark.parametrize("n", values((4, 2), full=(8,)))
    def bench_neg(cell, n, layout):
        cell(torch.neg, cell.tensor(n))
    """)
    listed = suite.run("--collect-only", "-q")
    ids = [line.split("::")[1] for line in listed.outlines if "::" in line]
    assert ids[:4] == [
        "bench_neg[cpu-float32-n4-wide]",
        "bench_neg[cpu-float16-n4-wide]",
        "bench_neg[cpu-bfloat16-n4-wide]",
        "bench_neg[cpu-float32-n2-wide]",
    ]
    assert not suite.files()
    suite.run("--profile", "smoke", "--dtype", "int8", "--dtype", "float64")
    rows = suite.rows()
    assert list(rows.params) == ["layout=wide;n=4", "layout=wide;n=2"]
    assert set(rows.dtype) == {"float64"}  # the benchmark has no meaning in int8
    assert set(rows.machine) == {"here"}
    assert rows.run_id.nunique() == 1


def test_full_adds_sizes_and_dtypes(suite):
    suite.write("""
    @pytest.mark.parametrize("n", values((2,), full=(4,)))
    def bench_neg(cell, n):
        cell(torch.neg, cell.tensor(n))
    """)
    listed = suite.run("--collect-only", "-q", "--profile", "full")
    assert sum("::" in line for line in listed.outlines) == 8


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["float32"]),
        (["--profile=full"], ["float32", "float16", "bfloat16", "float64"]),
        (["--dtype=bfloat16"], ["bfloat16"]),
    ],
)
def test_a_benchmark_names_the_dtypes_of_the_default_profile(suite, words, names):
    suite.write("""
    @dtypes("float32", "float16", "bfloat16", "float64", default=["float32"])
    def bench_neg(cell):
        cell(torch.neg, cell.tensor(2))
    """)
    listed = suite.run("--collect-only", "-q", *words)
    found = [line.split("cpu-")[1].rstrip("]") for line in listed.outlines if "::" in line]
    assert sorted(found) == sorted(names)


def test_one_device_under_two_names_is_timed_once(suite):
    suite.write("""
    @dtypes("float32")
    def bench_neg(cell):
        cell(torch.neg, cell.tensor(4))
    """)
    assert suite.run("--device", "cpu:0,cpu", "--profile", "smoke").ret == 0
    assert list(suite.rows().device) == ["cpu"]


QUICK = """
    @quick(n=(4,), dtype=("float32",))
    @pytest.mark.parametrize("n", values((4, 8), full=(16,)))
    def bench_chosen(cell, n):
        cell(torch.neg, cell.tensor(n))

    @dtypes("float32")
    def bench_unmarked(cell):
        cell(torch.neg, cell.tensor(4))
"""


def test_profile_quick_times_the_marked_cells_of_the_suite_and_all_of_the_user(suite, monkeypatch):
    suite.write(QUICK)
    words = ("--collect-only", "-q", "--profile", "quick")
    suite.run(*words).stdout.fnmatch_lines(["*chosen*n4*", "*unmarked*", "2/*"])
    monkeypatch.setattr(collection, "SUITE", suite.pytester.path)
    listed = suite.run(*words)
    listed.stdout.fnmatch_lines(["*chosen?cpu-float32-n4*", "1/*"])


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        ("dtypes('float33')", "*bench_it: mark dtypes: unknown 'float33'; known: float32, *"),
        ("dtypes()", "*bench_it: mark dtypes: unknown ''; known: float32, *"),
        ("quick(m=(4,))", "*bench_it[[]*[]]: mark quick: unknown 'm'; known: device, dtype, n*"),
    ],
)
def test_a_mark_that_names_what_there_is_not_is_a_line_for_the_user(suite, mark, line):
    suite.write(f"""
    from bench.suite.axes import dtypes, quick

    @{mark}
    @pytest.mark.parametrize("n", [4])
    def bench_it(cell, n):
        cell(torch.neg, cell.tensor(n))
    """)
    done = suite.run("--profile", "quick")
    assert done.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
    (done.stderr if "quick" in mark else done.stdout).fnmatch_lines([line])
    assert "INTERNALERROR" not in str(done.stdout)
    assert not suite.files()


def test_profile_quick_has_the_cells_that_the_main_answers_need(suite):
    words = ("-p", "bench.plugin", "--collect-only", "-q", "--profile", "quick", "--device", "cpu")
    listed = suite.run(*words, str(SUITE))
    ids = [line.partition("::bench_")[2] for line in listed.outlines if "::" in line]
    assert 20 <= len(ids) <= 30
    for dtype in ("float32", "float16", "bfloat16"):
        for name in ("step", "matmul", "softmax", "elementwise_chain"):
            assert any(one.startswith(f"{name}[cpu-{dtype}") for one in ids), (name, dtype)
    for name in ("loader", "optimizer_step", "copy", "autocast_step"):
        assert any(one.startswith(f"{name}[") for one in ids), name
    assert profiles.PROFILES["quick"].budget_s(len(ids)) <= 60


def test_cells_that_a_file_names_are_timed_whatever_profile_they_came_from(suite):
    suite.write("""
    @dtypes("float32", "float64")
    @pytest.mark.parametrize("n", values((1,), full=(2,)))
    def bench_neg(cell, n):
        cell(torch.neg, cell.tensor(n))
    """)
    suite.run("--profile", "smoke")
    family = suite.rows().family[0]
    cells = suite.pytester.path / "cells.csv"
    cells.write_text(
        "family,benchmark,device,dtype,params\n"
        f"{family},neg,cpu,float64,n=1\n"
        f"{family},neg,cpu,float32,n=2\n"
    )
    suite.run("--profile", "smoke", "--cells", str(cells), "--output", "named.csv")
    rows = reader.read(suite.pytester.path / "named.csv")
    assert sorted(zip(rows.dtype, rows.params, strict=True)) == [
        ("float32", "n=2"),
        ("float64", "n=1"),
    ]
