"""Runs in fresh processes: one file, several run_ids, and what a death leaves."""

import io
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.launch import command, process, runner
from bench.records import reader
from bench.report.progress import FleetBars, RunBar
from tests.helpers.command import run_bench
from tests.helpers.frames import store
from tests.helpers.listeners import RunListener

SMOKE = ["--profile", "smoke", "--machine", "here"]


@pytest.fixture
def runs(suite, monkeypatch, python):
    """Launch the suite of one file instead of the package's."""
    monkeypatch.chdir(suite.pytester.path)

    def run(number=1, output=None, resume=None, arguments=(), python=python, **more):
        monkeypatch.setattr(command, "of", lambda *words, place: [python, "-m", "pytest", *words])
        listener = RunListener()
        code, file = runner.run([*SMOKE, *arguments], number, output, resume, listener, **more)
        return code, file, listener

    return run


NEG = """
@dtypes("float32")
@pytest.mark.parametrize("n", [1, 2])
def bench_neg(cell, n):
    cell(torch.neg, cell.tensor(n))
"""


@pytest.mark.integration
def test_what_a_run_notices_at_its_end_is_reported_once(suite, runs):
    suite.write(
        NEG + "from bench.plugin import revisits\nrevisits.heated = lambda *_: ['mps is hot']"
    )
    _, _, heard = runs()
    assert heard.lines.count("mps is hot") == 1


@pytest.mark.integration
def test_runs_are_fresh_processes_in_one_file(suite, runs, tmp_path):
    suite.write(NEG)
    code, file, heard = runs(2, output=tmp_path / "out.csv")
    assert (code, file) == (0, tmp_path / "out.csv"), heard.lines
    rows = reader.read(file)
    assert rows.run_id.nunique() == 2
    assert list(rows.groupby("run_id").size()) == [2, 2]
    assert heard.cells == [(k, n, 2, "neg") for k in (1, 2) for n in (0, 1)]
    # One more than there are: those count, and a file is not written over.
    code, file, heard = runs(3, resume=file)
    assert code == 0
    assert heard.lines == []
    assert reader.read(file).run_id.nunique() == 3
    code, _, heard = runs(output=file)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert any("it exists; " in line for line in heard.lines)
    assert len(reader.read(file)) == 6


DEATH = """
import os, signal
{before}
@dtypes("float32")
@pytest.mark.parametrize("n", [1, 2, 3])
def bench_neg(cell, n):
    if n == 2:
        os.kill(os.getpid(), signal.{name})
    cell(torch.neg, cell.tensor(n))
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_cell_that_kills_its_process_is_a_row_and_the_rest_goes_on(suite, runs):
    suite.write(DEATH.format(name="SIGSEGV", before="import faulthandler; faulthandler.disable()"))
    code, file, heard = runs()
    rows = reader.read(file).set_index("params")
    assert code in (0, 1)
    assert dict(rows.status) == {"n=1": "ok", "n=2": "error", "n=3": "ok"}
    assert rows.reason["n=2"] == "the process died in this cell: SIGSEGV"
    assert rows.run_id.nunique() == 1
    assert any("the run continues" in line for line in heard.lines)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_death_in_an_appended_run_costs_no_other_run(suite, runs, tmp_path):
    suite.write(DEATH.format(name="SIGSEGV", before="import faulthandler; faulthandler.disable()"))
    file = tmp_path / "out.csv"
    assert runs(output=file, arguments=["-k", "n1"])[0] == 0
    code, _, heard = runs(2, output=file, append=True)
    assert code in (0, 1), heard.lines
    assert list(reader.read(file).groupby("run_id", sort=False).size()) == [1, 3, 3]


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_death_in_the_last_cell_ends_its_run_and_no_other(suite, runs):
    suite.write(DEATH.format(name="SIGSEGV", before="import faulthandler; faulthandler.disable()"))
    code, file, heard = runs(2, arguments=["-k", "n2"])
    assert code == 1, heard.lines
    rows = reader.read(file)
    assert list(rows.status) == ["error", "error"]
    assert rows.run_id.nunique() == 2


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("out_of_memory", [True, False])
def test_a_kill_is_out_of_memory_only_where_the_system_says_so(
    suite, runs, monkeypatch, out_of_memory
):
    counts = iter([0, 1, 1, 1] if out_of_memory else [0, 0, 0, 0])
    monkeypatch.setattr(runner, "_out_of_memory_kills", lambda: next(counts))
    suite.write(DEATH.format(name="SIGKILL", before=""))
    code, file, heard = runs()
    status = dict(reader.read(file).set_index("params").status)
    if out_of_memory:
        assert status == {"n=1": "ok", "n=2": "oom", "n=3": "ok"}
    else:
        assert (code, status) == (2, {"n=1": "ok"})
        assert any("--resume" in line for line in heard.lines)


@pytest.mark.skipif(not os.path.exists("/proc/vmstat"), reason="Linux counts them there")
def test_the_system_counts_its_kills():
    assert runner._out_of_memory_kills() >= 0


@pytest.mark.integration
def test_a_wrong_option_and_a_bad_file_are_one_line(suite, runs, tmp_path):
    suite.write(NEG)
    code, file, heard = runs(arguments=["--dtype", "float31"])
    assert (code, file) == (pytest.ExitCode.USAGE_ERROR, None)
    assert any("unknown 'float31'" in line for line in heard.lines)
    with pytest.raises(command.CannotRun, match=r"--resume: .*No such file"):
        runs(resume=tmp_path / "nothing.csv")


def test_families_and_appending_are_checked(suite):
    suite.write(NEG)
    result = suite.run("--family", "sorting")
    result.stderr.fnmatch_lines(["ERROR: --family: unknown 'sorting'; known: *tensors*"])
    result = suite.run("--append")
    result.stderr.fnmatch_lines(["ERROR: --append: needs a file to add to: --output FILE"])
    result = suite.run("--output", "a.csv", "--resume", "b.csv")
    result.stderr.fnmatch_lines(["ERROR: --output: --resume continues b.csv; give only*"])
    suite.run("--profile", "smoke", "--output", "a.csv")
    other = ["--benchmark-only", "--profile", "smoke", "--machine", "there"]
    result = suite.pytester.runpytest_inprocess(*other, "--output", "a.csv", "--append")
    result.stderr.fnmatch_lines(
        ["ERROR: --append: a.csv is of machine 'here', this one is there; give another file"]
    )


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_with_the_table_of_what_was_measured(suite, python):
    import subprocess
    import time

    suite.write("""
    import time

    @dtypes("float32")
    @pytest.mark.parametrize("n", range(1, 101))
    def bench_neg(cell, n):
        time.sleep(0.05)
        cell(torch.neg, cell.tensor(n))
    """)
    command = [python, "-m", "pytest", "--benchmark-only", *SMOKE]
    cwd = suite.pytester.path
    running = subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while running.poll() is None and not (
        suite.files() and suite.files()[0].read_bytes().count(b"\n") > 3
    ):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    shown, _ = running.communicate(timeout=120)
    assert running.returncode == pytest.ExitCode.INTERRUPTED
    rows = reader.read(suite.files()[0])
    assert 3 <= len(rows) < 100
    assert f"{len(rows)} cells: {len(rows)} ok" in shown
    assert re.search(r"^neg: n$", shown, re.M)


CELL = {"device": "cpu", "dtype": "float16", "benchmark": "cat", "params": "dim=0;n=16"}


def test_the_bar_shows_cell_count_and_name():
    out = io.StringIO()
    with RunBar(Console(file=out, force_terminal=True, width=120), 2) as bar:
        bar(run=2, done=3, total=10, cell=CELL, last="8.1 us")
        bar(message="a line [for] the user")
        bar.complete()
    shown = out.getvalue()
    assert "run 2 of 2" in shown
    assert "13/20" in shown
    assert "8.1 us; now cpu float16 cat dim=0 n=16" in shown
    assert "a line [for] the user" in shown
    assert "20/20" in shown


def test_a_bar_that_never_began_leaves_nothing():
    out = io.StringIO()
    with RunBar(Console(file=out)):
        pass
    assert out.getvalue() == ""


def test_later_visits_show_the_time_that_is_left():
    out = io.StringIO()
    with RunBar(Console(file=out, force_terminal=True, width=120)) as bar:
        bar(run=1, done=9, total=10, cell=CELL)
        bar(run=1, left_s=41.6, cell=CELL)
    assert "again, 42 s left" in out.getvalue()
    assert "10/10" in out.getvalue()


def test_the_time_limit_of_a_cell_starts_again_at_a_later_visit():
    heard, report = RunListener(), process.ProcessReport()
    report.since = -1e9
    process._listen(
        [f'{process.MARK}{{"cell": {json.dumps(CELL)}, "left_s": 5}}\n'], report, 1, heard
    )
    assert heard.again == [(1, 5, "cat")]
    assert report.since > -1e9


def test_a_fleet_has_a_bar_for_each_machine():
    out = io.StringIO()
    with FleetBars(Console(file=out, force_terminal=True, width=120)) as bars:
        bars("a1", run=1, done=3, total=10, cell=CELL)
        bars("a1", rows=3, reason="its worker is gone")
    shown = out.getvalue()
    assert "3/10" in shown
    assert "a1: 3 rows; its worker is gone" in shown


def test_only_families_that_are_asked_for_are_collected(tmp_path):
    def folders(*words):
        return [path.name for path in command.folders(command.PACKAGE, words)]

    assert folders("-k", "cat") == ["suite"]
    assert folders("--family=tensors,loading") == ["tensors", "loading"]
    assert folders("--family", "loading", "-k", "cat") == ["loading"]
    assert folders("--family=sorting") == ["suite"]
    cells = tmp_path / "cells.csv"
    cells.write_text("family,benchmark,device,dtype,params\ntraining,step,cpu,float32,batch=1\n")
    assert folders("--family=tensors", f"--cells={cells}") == ["training"]
    cells.write_text("nothing\n")
    assert folders(f"--cells={cells}") == ["suite"]


def test_a_checkout_around_an_installed_suite_is_not_imported(tmp_path, monkeypatch):
    """As in a workflow: a checkout, and what pip install has put elsewhere."""
    monkeypatch.chdir(command.PACKAGE.parent)
    assert "-P" not in command.of()
    (tmp_path / "bench").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command.of()[1] == "-P"


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_death_after_the_row_of_a_cell_adds_none(suite, runs):
    """While what the cell has opened is closed; and one at the end of a run is no success."""
    suite.write("""
    import os, signal, faulthandler
    faulthandler.disable()

    @pytest.fixture
    def deadly(request):
        yield
        if request.node.callspec.params["n"] == 1:
            os.kill(os.getpid(), signal.SIGSEGV)

    @dtypes("float32")
    @pytest.mark.parametrize("n", [1, 2])
    def bench_neg(deadly, cell, n):
        cell(torch.neg, cell.tensor(n))
    """)
    code, file, heard = runs()
    assert code in (0, 1), heard.lines
    rows = reader.read(file)
    assert list(rows.params) == ["n=1", "n=2"]
    assert list(rows.status) == ["ok", "ok"]


def test_a_file_that_cannot_be_imported_is_not_passed_over_in_silence(monkeypatch):
    """pytest ends with 2, as for Ctrl-C, and says why on its standard output."""
    report, heard = process.ProcessReport(), RunListener()
    monkeypatch.setattr(process.Launcher, "process", lambda *_: (2, report, "No module named 'x'"))
    assert runner.run(["broken.py"], 3, None, None, heard) == (2, None)
    assert heard.lines == ["No module named 'x'"]


def test_a_run_without_a_cell_says_so(monkeypatch):
    done = (5, process.ProcessReport(), "== 6 deselected ==")
    monkeypatch.setattr(process.Launcher, "process", lambda *_: done)
    heard = RunListener()
    assert runner.run(["-k", "nothing"], 1, None, None, heard) == (5, None)
    assert heard.lines == [runner.NO_CELL]


def test_a_run_that_ends_by_a_signal_is_no_success(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "_run_once", lambda *_: (-11, tmp_path / "out.csv"))
    assert runner.run([], 3, None, None, RunListener()) == (139, tmp_path / "out.csv")


#: Reports a cell, and a second one when it is asked to end; then it hangs.
HANGS = f"""
import json, os, signal, time
event = {{"file": "out.csv", "cell": {CELL!r}, "done": 0, "total": 2}}
def report(*_):
    os.write(2, ({process.MARK!r} + json.dumps(event) + "\\n").encode())
signal.signal(signal.SIGINT, report)
report()
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_ctrl_c_ends_at_once_and_still_names_the_file(monkeypatch):
    class Impatient(RunListener):
        def cell_started(self, *given):
            super().cell_started(*given)
            raise KeyboardInterrupt

    words = [sys.executable, "-I", "-S", "-c", HANGS]
    monkeypatch.setattr(command, "of", lambda *_, **__: words)
    heard = Impatient()
    assert runner.run([], 3, None, None, heard) == (130, Path("out.csv"))
    assert len(heard.cells) == 2
    assert heard.lines == ["stopping after this call; Ctrl-C again stops at once"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_caller_can_stop_a_run(monkeypatch):
    heard = RunListener()
    words = [sys.executable, "-I", "-S", "-c", HANGS]
    monkeypatch.setattr(command, "of", lambda *_, **__: words)
    done = runner.run([], 3, None, None, heard, stopped=lambda: bool(heard.cells))
    assert done[0] == 130
    assert len(heard.cells) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL"])
def test_a_process_that_is_ended_from_outside_is_no_success(name, monkeypatch, tmp_path):
    """Its cell is not to blame, and gets no row."""
    file = Path(store(tmp_path / "out.csv", {}))
    report = process.ProcessReport(file=file, cell=CELL)
    code = -getattr(signal, name)
    monkeypatch.setattr(process.Launcher, "process", lambda *_: (code, report, ""))
    monkeypatch.setattr(runner, "_out_of_memory_kills", lambda: 0)
    heard = RunListener()
    assert runner.run([], 2, file, None, heard) == (2, file)
    assert heard.lines == [f"killed from outside; continue with --resume {file}"]
    assert len(reader.read(file)) == 1


@pytest.mark.parametrize("text", ["", "what it printed"])
def test_a_process_that_ends_before_its_first_cell_is_no_success(text, monkeypatch):
    """As one in which a file of the user ends with `os._exit(0)`."""
    monkeypatch.setattr(process.Launcher, "process", lambda *_: (0, process.ProcessReport(), text))
    heard = RunListener()
    assert runner.run([], 1, None, None, heard) == (1, None)
    assert heard.lines == [text or "the process ended before its first cell"]


def test_progress_after_a_line_that_did_not_end_is_heard():
    heard, report = RunListener(), process.ProcessReport()
    event = json.dumps({"cell": CELL, "done": 0, "total": 1})
    process._listen(["\n", f"a warning{process.MARK}{event}\n"], report, 1, heard)
    assert report.lines == ["a warning"]
    assert heard.cells == [(1, 0, 1, "cat")]


def test_what_a_benchmark_writes_after_a_mark_is_no_event():
    heard, report = RunListener(), process.ProcessReport()
    lines = [f"{process.MARK}{text}\n" for text in ("{", "[1]", "7", "null", '"file"')]
    process._listen(lines, report, 1, heard)
    assert (report.file, report.cell, heard.lines) == (None, None, [])


#: Ends its only cell, and then does not end, or leaves a child with its pipe.
LEFT = f"""
import json, os, time
event = {{"file": "out.csv", "cell": {CELL!r}, "done": 0, "total": 1}}
for one in (event, {{"finished": 0}}):
    os.write(2, ({process.MARK!r} + json.dumps(one) + "\\n").encode())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("rest", ["time.sleep(600)", "os.fork() or time.sleep(600)"])
def test_what_a_benchmark_leaves_running_does_not_keep_the_run(rest, monkeypatch):
    """A thread that is no daemon, or a process; the launcher waited for it for ever."""
    words = [sys.executable, "-I", "-S", "-c", LEFT + rest]
    monkeypatch.setattr(command, "of", lambda *_, **__: words)
    monkeypatch.setattr(process, "END_S", 0.1)
    monkeypatch.setattr(runner, "_failed", lambda _: False)
    heard = RunListener()
    assert runner.run([], 1, None, None, heard) == (0, Path("out.csv"))
    assert heard.lines == [process.LEFT_OVER]


def test_a_file_that_cannot_be_resumed_is_not_shown(monkeypatch, tmp_path):
    """The reason stood above the table of a run of another version."""
    path = store(tmp_path / "out.csv", {})
    monkeypatch.setattr(runner, "run", lambda *_, **__: (4, path))
    done = run_bench("run", "--resume", path)
    assert (done.exit_code, done.output) == (2, "")


def test_a_run_that_is_stopped_says_how_to_go_on(monkeypatch, tmp_path):
    path = store(tmp_path / "out.csv", {})
    monkeypatch.setattr(runner, "run", lambda *_, **__: (130, path))
    done = run_bench("run", "-q", "--dtype", "float32")
    assert done.exit_code == 130
    assert f"stopped; continue with bench run --resume {path} --dtype=float32" in done.output
