"""A run of pytest: every cell asked for ends in one row, whatever happens to it."""

import json
import os
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from bench.measure import doctor
from bench.plugin import preflight
from bench.records import reader

#: Each test runs a session of pytest.
pytestmark = pytest.mark.integration

#: The tests of other things replace it.
LOOK = preflight.look
STATUSES = """
def broken(x):
    return x + (x.dtype == torch.float32)

@dtypes("float32", "float16")
def bench_wrong(cell):
    cell(broken, cell.tensor(100))

@dtypes("float32")
def bench_refused(cell):
    cell(torch.Tensor.numpy, cell.tensor(4).to_sparse())

@dtypes("float32")
def bench_unsupported(cell):
    cell(torch.rand, 4, dtype=torch.int32)

@dtypes("float32")
def bench_memory(cell):
    cell(torch.empty, 2**60)

@dtypes("float32")
def bench_error(cell):
    cell(torch.cat, [cell.tensor(2, 2), cell.tensor(3, 3)])

@dtypes("float32")
def bench_setup_error(cell):
    cell.tensor(2, 2) @ cell.tensor(3, 3)

@dtypes("float32")
def bench_good(cell):
    cell.work(items=4, bytes=16, flop=0)
    cell(torch.neg, cell.tensor(4))
"""


def test_every_status_is_a_row_and_the_rest_goes_on(suite):
    suite.write(STATUSES)
    result = suite.run("--profile", "smoke")
    rows = suite.rows()
    found = {(r.benchmark, r.dtype): r.status for r in rows.itertuples()}
    assert found.pop(("refused", "float32")) in ("unsupported", "error")
    assert found == {
        ("wrong", "float32"): "wrong",
        ("wrong", "float16"): "ok",
        ("unsupported", "float32"): "unsupported",
        ("memory", "float32"): "oom",
        ("error", "float32"): "error",
        ("setup_error", "float32"): "error",
        ("good", "float32"): "ok",
    }
    assert result.ret == 1
    wrong = rows[rows.status == "wrong"].iloc[0]
    assert wrong.median_s > 0  # fast and wrong: timed all the same
    assert wrong.rel_error > wrong.tolerance
    assert "off by" in wrong.reason
    assert "not implemented for 'Int'" in rows[rows.benchmark == "unsupported"].iloc[0].reason
    result.stdout.fnmatch_lines(["*good*", "8 rows of 1 run in results*here*.csv"])
    result.stdout.no_fnmatch_line("*was not used at all*")


def test_a_patched_operation_is_wrong(suite, monkeypatch):
    """A backend whose result is off in one dtype is caught by the float64 reference."""
    import torch

    right = torch.neg
    monkeypatch.setattr(torch, "neg", lambda x: right(x) * (1.01 if x.dtype.itemsize < 8 else 1))
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(9))\n")
    suite.run("--profile", "smoke", "--dtype", "float32,float64")
    assert dict(zip(suite.rows().dtype, suite.rows().status, strict=True)) == {
        "float32": "wrong",
        "float64": "ok",
    }


def test_a_simulated_device_runs_the_suite(suite, simulated):
    suite.write("""
    from tests.helpers import simulated

    def kernel(x):
        simulated.DEVICE.launch(250e-6)
        return x + 1

    @accelerator_only
    @dtypes("float32")
    def bench_kernel(cell):
        cell(kernel, cell.tensor(4))
    """)
    result = suite.run("--device", "cpu,sim")
    assert result.ret == 0
    rows = suite.rows()
    assert list(rows.device) == ["sim"]
    assert rows.median_s[0] == pytest.approx(250e-6, rel=0.05)
    assert rows.first_call_s[0] == pytest.approx(250e-6, rel=0.05)
    assert rows.device_name[0] == "simulated GPU"
    assert rows.dispatch_s[0] == pytest.approx(simulated.launch_s, rel=0.05)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--device", "tpu"], "ERROR: --device: 'tpu' is no device of this machine; it has: cpu*"),
        (["--device", "cpu:7"], "ERROR: --device: 'cpu:7': *"),
        (["--dtype", "float31"], "ERROR: --dtype: unknown 'float31'; known: float32, *"),
        (["--profile", "fast"], "ERROR: --profile: unknown 'fast'; known: smoke, *"),
        (["--quick"], "ERROR: unknown option --quick; bench run --help and pytest --help *"),
        (["--threads", "0"], "ERROR: --threads: 0 is not a number of threads; *"),
        (["--machine", "../up"], "ERROR: --machine: '../up' is not a label; *"),
        (["--results", "bench_it.py"], "ERROR: cannot write bench_it.py/here*: *--results"),
    ],
)
def test_bad_options_are_one_line_before_anything_runs(suite, words, line):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    result = suite.run(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = result.outlines + result.errlines
    assert sum(text.startswith("ERROR:") for text in lines) == 1
    assert "Traceback" not in "\n".join(lines)
    assert any(fnmatch(text, line) for text in lines)
    assert not suite.files()


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_disk_full_is_one_line_and_keeps_what_was_measured(suite, python):
    suite.write("""
    @dtypes("float32")
    @pytest.mark.parametrize("n", range(1, 41))
    def bench_neg(cell, n):
        cell(torch.neg, cell.tensor(n))
    """)
    limited = (
        "import resource, sys, pytest; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(pytest.main(['--benchmark-only', '--profile', 'smoke', '-s']))"
    )
    done = subprocess.run(
        [python, "-c", limited],
        cwd=suite.pytester.path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [text for text in done.stdout.splitlines() if "cannot append to" in text]
    assert "File too large" in line
    (path,) = suite.files()
    rows = reader.read(path)
    assert 3 <= len(rows) < 40
    assert f"its {len(rows)} finished rows are kept" in line
    assert f"{len(rows)} rows of 1 run in" in done.stdout


def test_the_table_of_pytest_benchmark_is_printed_on_request(suite):
    suite.write("""
    def bench_neg(cell):
        cell(torch.neg, cell.tensor(4))

    def bench_plain(benchmark):
        benchmark(len, "")
    """)
    words = ("--profile", "smoke", "--dtype", "float32")
    plain = suite.run(*words).stdout
    plain.fnmatch_lines(["bench_plain *", "neg *"])
    plain.no_fnmatch_line("bench_neg*Rounds*")
    plain.no_fnmatch_line("bench_neg?cpu-float32? *")
    asked = suite.run(*words, "--benchmark-columns=min,max").stdout
    asked.fnmatch_lines(["bench_neg?cpu-float32? *", "neg *"])


def test_a_run_says_first_how_long_it_takes_and_who_disturbs_it(suite, monkeypatch):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    monkeypatch.setattr(preflight, "look", lambda: ["note: process 7 runs benchmarks too"])
    words = ("--dtype", "float32", "--budget", "0.3")
    suite.run(*words).stdout.fnmatch_lines(
        ["1 cell to be timed: about 0 s", "note: process 7*", "*bench_it.py*"]
    )
    suite.run(*words, "--profile", "smoke").stdout.fnmatch_lines(["1 cell to be called once*"])
    suite.run("-q", *words).stdout.no_fnmatch_line("note:*")


def test_options_of_pytest_benchmark_without_an_effect_are_named(suite):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    words = ("--benchmark-calibration-precision=5", "--benchmark-warmup-iterations=3")
    result = suite.run("--profile", "smoke", "--dtype", "float32", *words)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"note: {word.split('=')[0]} has no effect: *" for word in words])


def test_what_disturbs_a_run_is_named_with_its_remedy(monkeypatch):
    busy = {"used": 1.9, "cpus": 2, "steal": 0.0, "busiest": [("make", 7, 99.0)]}
    found = doctor.Finding("neighbours", "neighbours", busy, ("stop if possible",), True)
    quiet = doctor.Finding("power", "power", {}, (), True)
    monkeypatch.setattr(doctor, "neighbours", lambda: found)
    monkeypatch.setattr(doctor, "power", lambda: quiet)
    monkeypatch.setattr(preflight, "_other_runs", lambda: [8])
    first, second = LOOK()
    assert first == "note: process 8 runs benchmarks too, and both disturb each other"
    assert second.startswith("note: other processes use 1.90 of 2 CPUs: make (pid 7, 99 %): stop")


def test_quiet_silences_the_table(suite):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    for words in (["-q"], ["--benchmark-quiet"]):
        result = suite.run("--profile", "smoke", *words)
        result.stdout.no_fnmatch_line("* of 1 run in *")


def test_no_host_or_user_name_is_written(suite, monkeypatch):
    import getpass
    import platform

    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    words = ("--benchmark-only", "--profile", "smoke", "--benchmark-json", "made.json")
    suite.pytester.runpytest_inprocess(*words)
    (path,) = suite.files()
    made = suite.pytester.path / "made.json"
    assert json.loads(made.read_text())["machine_info"]["node"] == path.parent.name
    for text in (path.read_text(), made.read_text(), path.parent.name):
        assert "secret-host" not in text
        assert f",{getpass.getuser()}," not in text


def test_two_benchmarks_of_one_name_are_a_usage_error(suite):
    package = suite.pytester.mkpydir("sizes")
    for name in ("bench_it.py", "bench_that.py"):
        (package / name).write_text("def bench_neg(cell):\n    cell(lambda: 1)\n")
    result = suite.run("sizes")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *that.py: benchmark sizes/neg is in *it.py too; rename one*"]
    )
    assert not suite.files()


def test_a_reference_that_cannot_be_is_no_refusal_of_the_device(suite):
    suite.write("""
    def picky(x):
        if x.dtype == torch.float64:
            raise NotImplementedError("no float64 here")
        return x

    @dtypes("float32")
    def bench_picky(cell):
        cell(picky, cell.tensor(4))
    """)
    suite.run("--profile", "smoke")
    row = suite.rows().iloc[0]
    assert row.status == "error"
    assert row.reason.startswith("the answer could not be checked: ")
    assert row.reason.endswith("no float64 here; pass the cell a `check`")
