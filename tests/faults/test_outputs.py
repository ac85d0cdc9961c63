"""Standard output that ends before the command does, and Ctrl-C while a command starts."""

import errno
import io
import os
import signal
import subprocess

import pytest
from typer.testing import CliRunner

from bench import __main__ as entry
from bench.cli import main, output
from tests.faults import damage, fuzz
from tests.helpers.command import run_bench

FULL = "/dev/full"


@pytest.fixture(autouse=True)
def interrupts():
    """The command ignores Ctrl-C at its end, the tests do not."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class Failing(io.StringIO):
    """A stream whose writes fail with one error number."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.file = open(os.devnull, "w")  # noqa: SIM115

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))

    def fileno(self):
        return self.file.fileno()


@pytest.mark.parametrize(
    ("number", "ends", "status"),
    [
        (errno.EPIPE, 0, 0),
        (errno.EPIPE, 1, 1),
        (errno.EPIPE, 3, 3),
        (errno.ENOSPC, 0, 2),
        (errno.ENOSPC, 1, 1),
    ],
)
def test_a_command_keeps_its_exit_status(number, ends, status, monkeypatch, capsys):
    def app(prog_name):
        print("a line")
        raise SystemExit(ends)

    monkeypatch.setattr("bench.cli.main.app", app)
    monkeypatch.setattr("sys.stdout", Failing(number))
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == status
    # A second Ctrl-C would interrupt what libraries do at exit, and print their tracebacks.
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    shown = capsys.readouterr().err
    assert shown == (
        "" if number == errno.EPIPE else f"bench: standard output: {os.strerror(28)}\n"
    )


def test_an_error_that_cannot_be_printed_keeps_its_exit_status(monkeypatch):
    """A full disk behind standard error turned 2 and 3 into 1, which is a regression."""
    monkeypatch.setattr("sys.stderr", Failing(errno.ENOSPC))
    monkeypatch.setattr("sys.stdout", io.StringIO())
    output.install()
    with pytest.raises(SystemExit) as ended:
        main.app(["compare", "missing.csv"])
    assert ended.value.code == 2


LACKING = {
    "no more processes or threads": BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    "raise its limit": RuntimeError("can't start new thread"),
    "not enough memory": MemoryError(),
    "No space left": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "Too many open files": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
}


@pytest.mark.parametrize("words", LACKING)
def test_what_the_system_lacks_is_one_line(words, monkeypatch):
    def lacks(*_, **__):
        raise LACKING[words]

    monkeypatch.setattr("bench.cli.results.read", lacks)
    done = run_bench("compare")
    assert done.exit_code == 2
    assert done.output.startswith("bench: ")
    assert done.output.count("\n") == 1
    assert words in done.output


def test_a_fault_of_the_suite_is_not_hidden(monkeypatch):
    monkeypatch.setattr("bench.cli.results.read", lambda *_, **__: [][0])
    assert isinstance(run_bench("compare").exception, IndexError)


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be deleted there")
def test_a_deleted_folder_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = run_bench("info")
    assert done.exit_code == 2
    assert done.output == "bench: the current folder was deleted; change to another one\n"


def test_a_closed_output_is_no_fault(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    out = output.install()
    out.write("a line")
    out.flush()
    assert out.problem is None


@pytest.mark.integration
@pytest.mark.skipif(not os.path.exists(FULL), reason="no device that is always full here")
def test_a_full_disk_is_one_line(python):
    with open(FULL, "w") as full:
        done = subprocess.run(
            [python, "-m", "bench", "--help"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.integration
def test_ctrl_c_while_a_command_starts_is_one_line(python):
    code = (
        "import sys, builtins; real = builtins.__import__\n"
        "def stop(name, *rest):\n"
        "    if name == 'bench.cli.main': raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "from bench.__main__ import main; builtins.__import__ = stop; main()"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "bench: stopped\n")


@pytest.mark.parametrize("charset", ["ascii", "cp1252", "utf-16"])
def test_a_terminal_that_lacks_letters_gets_the_text_without_them(charset, tmp_path):
    """Files are UTF-8 in every locale; what a terminal cannot show is replaced."""
    for name, slower in (("a", 1), ("b", 3)):
        damage.runs(slower, tmp_path, f"{name}.csv")
        path = tmp_path / f"{name}.csv"
        path.write_text(path.read_text("utf-8").replace(",slow,", ",l\u00f6w\u6f22,"), "utf-8")
    known = fuzz.commands(tmp_path / "b.csv", tmp_path / "a.csv", tmp_path / "out.md")
    for name in ("check", "verdict", "card", "compare", "history"):
        done = CliRunner(charset=charset).invoke(main.app, known[name])
        assert done.exit_code in {0, 1}, done.output
        assert not done.exception or isinstance(done.exception, SystemExit), name
        assert done.output, name
