"""A run that ended early is continued, and nothing is timed twice."""

import subprocess
import sys

import pytest

from bench.plugin import unfinished
from bench.records import reader

#: Each test runs a session of pytest.
pytestmark = pytest.mark.integration


INTERRUPTED = """
    @dtypes("float32")
    @pytest.mark.parametrize("n", range(1, 6))
    def bench_neg(cell, n):
        if n == 3 and STOP:
            raise KeyboardInterrupt
        cell(torch.neg, cell.tensor(n))
"""


@pytest.fixture
def interrupted(suite):
    """The CSV of a run of four of five cells that was interrupted in the third."""
    suite.write(INTERRUPTED.replace("STOP", "True"))
    suite.pytester.runpytest_inprocess(
        *("--benchmark-only", "--machine", "here", "--profile", "smoke", "-k", "not n5"),
        no_reraise_ctrlc=True,
    )
    suite.write(INTERRUPTED.replace("STOP", "False"))
    (path,) = suite.files()
    assert len(reader.read(path)) == 2
    return path


def test_a_resumed_run_knows_its_cells_and_its_profile(suite, interrupted):
    result = suite.run("--resume", str(interrupted))
    assert result.ret == 0
    rows = suite.rows()
    assert sorted(rows.params) == ["n=1", "n=2", "n=3", "n=4"]
    assert (rows.rounds == 1).all()  # as in the profile smoke
    assert rows.run_id.nunique() == 1
    result.stdout.fnmatch_lines(
        ["continues with the 4 cells of the interrupted run, profile smoke"]
    )
    assert [path.name for path in interrupted.parent.iterdir()] == [interrupted.name]


def test_options_replace_what_a_resumed_run_remembers(suite, interrupted):
    assert suite.run("--resume", str(interrupted), "--dtype", "float32").ret == 0
    assert len(suite.rows()) == 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"run_id": 1, "profile": "smoke"}',
        '{"run_id": 1, "profile": "os.system", "cells": []}',
        '{"run_id": 1, "profile": "smoke", "cells": [["a"]]}',
        "[" * 10_000,
    ],
)
def test_what_is_remembered_is_data_and_may_be_absurd(suite, interrupted, text):
    (interrupted.parent / f"{interrupted.name}.unfinished").write_text(text)
    assert unfinished.read(interrupted) is None
    assert suite.run("--resume", str(interrupted), "--profile", "smoke").ret == 0
    assert len(suite.rows()) == 5


SLOW = """
import time

@dtypes("float32")
@pytest.mark.parametrize("n", range(1, 31))
def bench_neg(cell, n):
    time.sleep(0.01)
    cell(torch.neg, cell.tensor(n))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
@pytest.mark.parametrize("after", [0, 1, 20])
def test_a_killed_run_keeps_its_rows_and_is_resumed(suite, python, after):
    suite.write(SLOW)
    words = ["--benchmark-only", "--profile", "smoke", "--machine", "here"]
    command = [python, "-m", "pytest", *words]
    cwd = suite.pytester.path
    running = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL)
    while running.poll() is None:
        if suite.files() and suite.files()[0].read_bytes().count(b"\n") > after:
            running.kill()
    running.wait()
    (path,) = suite.files()
    rows = reader.read(path)
    assert len(rows) >= after
    path.write_bytes(path.read_bytes() + b"1,0.1")  # and half a row more
    result = suite.run("--profile", "smoke", "--resume", str(path))
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    whole = reader.read(path)
    assert len(whole) == 30
    assert not whole.duplicated("params").any()
    assert whole.run_id.nunique() == 1
    assert len(suite.files()) == 1


def test_resuming_in_another_environment_is_refused(suite):
    suite.write("def bench_neg(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    suite.run("--profile", "smoke")
    (path,) = suite.files()
    text = path.read_text()
    version = suite.rows().torch[0]
    path.write_text(text.replace(version, "2.0.0"))
    result = suite.run("--resume", str(path))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --resume: *torch '2.0.0', this process *; start a new run"]
    )
    path.write_text(text.replace(",here,", ",there,"))
    result = suite.run("--resume", str(path))
    result.stderr.fnmatch_lines(
        ["ERROR: --resume: *machine 'there', this process 'here'; start a new run"]
    )
    path.write_text(text.replace(suite.rows().device_name[0] + ",,", "another GPU,,"))
    result = suite.run("--resume", str(path))
    result.stderr.fnmatch_lines(["ERROR: --resume: * has cpu 'another GPU', this process *"])
    result = suite.run("--resume", "nothing.csv")
    result.stderr.fnmatch_lines(["ERROR: --resume: nothing.csv: No such file*"])


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "RuntimeError"])
def test_pytest_does_not_print_the_numbers_of_a_storage_that_a_frame_holds(suite, raised):
    suite.write(f"""
    class Storage(torch.UntypedStorage):
        def __repr__(self):
            open("printed", "w").close()
            return "0"

    def copy(storage):
        raise {raised}("while it is copied")

    @dtypes("float32")
    def bench_copy(cell):
        copy(Storage(4))
    """)
    result = suite.pytester.runpytest_inprocess("--benchmark-only", no_reraise_ctrlc=True)
    assert result.ret == (2 if raised == "KeyboardInterrupt" else 1)
    assert f"{raised}" in result.stdout.str()
    assert not (suite.pytester.path / "printed").exists()


def test_nothing_that_is_raised_meanwhile_replaces_ctrl_c(suite):
    suite.write(
        """
    class Worker:
        def close(self):
            raise RuntimeError("DataLoader worker exited unexpectedly")

    @dtypes("float32")
    def bench_neg(cell):
        with contextlib.closing(Worker()):
            raise KeyboardInterrupt
    """.replace("\n", "\n    import contextlib\n", 1)
    )
    result = suite.pytester.runpytest_inprocess("--benchmark-only", no_reraise_ctrlc=True)
    assert result.ret == 2
