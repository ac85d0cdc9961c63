"""Files that would choose what is run, and ports that would let somebody in."""

import json
import os
import socket
import sys
from types import SimpleNamespace

import pytest
from typer.main import get_command

from bench.cli import fleet, main
from bench.launch import ab, command, runner, sides
from bench.launch.roster import Roster
from bench.tune import study
from tests.helpers.command import run_bench
from tests.helpers.frames import store
from tests.helpers.processes import Machine
from tests.helpers.sockets import listening

#: What this process does with sockets of the network, while a test wants to know.
SEEN = []
WATCHED = [False]


def _hook(event, arguments):
    if not WATCHED[0] or not event.startswith("socket."):
        return
    if event in ("socket.bind", "socket.connect", "socket.sendto"):
        own, address = arguments
        # A datagram socket that connects sends nothing: Dask so asks for its own address.
        asks = event == "socket.connect" and own.type == socket.SOCK_DGRAM
        if own.family in (socket.AF_INET, socket.AF_INET6) and not asks:
            SEEN.append((event, address[0]))
    elif event == "socket.getaddrinfo":
        SEEN.append((event, arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _audited():
    sys.addaudithook(_hook)  # it stays for the life of the process


@pytest.fixture
def network():
    """What was bound, connected to or looked up since."""
    SEEN.clear()
    WATCHED[0] = True
    yield SEEN
    WATCHED[0] = False


COMMANDS = {
    "run": ["-q"],
    "model": ["torch.nn:Identity", "--input=2"],
    "list": [],
    "info": [],
    "doctor": ["--processes=0", "--device=cpu"],
    "tune": ["loader", "--budget=0", "--setting=batch=32"],
    "compare": ["a.csv", "b.csv"],
    "verdict": ["a.csv"],
    "card": ["a.csv"],
    "report": ["a.csv", "-o", "a.html"],
    "export": ["a.csv", "--format", "markdown"],
    "import": ["a.json", "-o", "c.csv"],
    "check": ["a.csv", "--baseline", "b.csv"],
    "ab": ["--candidate-env=SIDE=candidate", "--screen-runs=2"],
    "history": ["a.csv"],
    "fleet": ["--profile=smoke"],
}


def test_every_command_is_tried():
    assert COMMANDS.keys() == get_command(main.app).commands.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_listens_or_connects(name, network, tmp_path, monkeypatch):
    """But for Dask in `bench fleet`, which listens on this machine alone."""
    monkeypatch.chdir(tmp_path)
    path = store(tmp_path / "a.csv", {"run_id": "1"}, {"run_id": "2", "mean_s": 1.1e-3})
    store(tmp_path / "b.csv", {"run_id": "3"}, {"run_id": "4", "mean_s": 1.2e-3})
    (tmp_path / "a.json").write_text(json.dumps({"benchmarks": []}))
    made = Machine().run if name == "ab" else lambda *_, **__: (0, path)
    monkeypatch.setattr(runner, "run", made)
    monkeypatch.setattr(sides, "_probe", lambda *_: None)
    listed = SimpleNamespace(stdout="", stderr="", returncode=0)
    if name == "list":
        monkeypatch.setattr(main.subprocess, "run", lambda *_, **__: listed)
    monkeypatch.setattr("bench.measure.doctor.examine", lambda _: ())
    if name == "fleet":
        cluster = pytest.importorskip("bench.launch.cluster", reason="an optional extra")
        monkeypatch.setattr(cluster, "find", lambda *_: ([], listening() and ["no machine"]))
    before = listening()
    done = run_bench(name, *COMMANDS[name])
    assert not done.exception or isinstance(done.exception, SystemExit), done.output
    assert listening() == before
    assert {address for _, address in network} == ({"127.0.0.1"} if name == "fleet" else set())


def test_a_run_of_the_suite_neither_listens_nor_connects(suite, network):
    suite.write("def bench_it(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    before = listening()
    assert suite.run("--profile=smoke", "--dtype=float32").ret == 0
    assert listening() == before
    assert network == []


def test_an_open_port_is_seen(network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname() in listening()
        assert network == [("socket.bind", "127.0.0.1")]


@pytest.mark.parametrize("family", ["../evil", "/tmp/evil", "evil", "..", "tensors/../../evil"])
def test_no_family_of_a_file_is_a_path(family, tmp_path):
    """A conftest.py of the named folder was run."""
    (tmp_path / "evil").mkdir()
    for name in (family, str(tmp_path / "evil")):
        cells = tmp_path / "cells.csv"
        cells.write_text(f"family,benchmark,device,dtype,params\n{name},step,cpu,float32,n=1\n")
        for words in ([f"--cells={cells}"], [f"--family={name}"]):
            assert command.folders(command.PACKAGE, words) == [command.PACKAGE / "suite"]


BREAKS = "a\n::error::evil\n.csv"
NAMED = [
    *(["compare", BREAKS], ["verdict", BREAKS], ["card", BREAKS], ["history", BREAKS]),
    *(["report", "a.csv", "-o", BREAKS], ["export", BREAKS, "--format=go"]),
    *(["check", BREAKS, "--baseline", "a.csv"], ["check", "a.csv", f"--baseline={BREAKS}"]),
    *(
        ["check", "a.csv", "--baseline", "a.csv", "--summary", BREAKS],
        ["import", BREAKS, "-o", "b"],
    ),
    *(["run", "--resume", BREAKS], ["run", f"--cells={BREAKS}"], ["run", f"--results={BREAKS}"]),
    *(["list", f"--cells={BREAKS}"], ["ab", "--resume", BREAKS], ["fleet", "--folder", BREAKS]),
    *(["tune", "loader", f"--resume={BREAKS}"], ["model", BREAKS], ["run", BREAKS]),
    *(
        ["compare", "folder"],
        ["compare", f"x-env{BREAKS}"],
        ["verdict", "folder"],
        ["check", "folder", "--baseline", "a.csv"],
    ),
    *(["report", "folder", "--markdown"], ["compare", "a.csv", "--where", f"x={BREAKS}"]),
]


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
@pytest.mark.parametrize("words", NAMED, ids=lambda words: " ".join(words[:2]).split("\n")[0])
def test_no_file_name_reaches_the_start_of_a_line(words, tmp_path, monkeypatch):
    """A workflow that printed a name took the rest of it for its own command."""
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "a.csv", {})
    (tmp_path / "folder").mkdir()
    for name in (BREAKS, f"folder/{BREAKS}"):
        store(tmp_path / name, {"run_id": "b"})
        with open(tmp_path / name, "a") as file:
            file.write("half,a")
    done = run_bench(*words)
    assert not done.exception or isinstance(done.exception, SystemExit), done.output
    assert not [line for line in done.output.splitlines() if line.lstrip().startswith("::")]
    assert "evil" in done.output or words[-1] == "--markdown"


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_no_name_of_the_folder_reaches_the_start_of_a_line(tmp_path, monkeypatch):
    """pytest prints it in each error of a file that it collects."""
    (tmp_path / BREAKS).mkdir()
    monkeypatch.chdir(tmp_path / BREAKS)
    for name in ("list", "run", "compare"):
        done = run_bench(name)
        assert done.exit_code == 2
        assert "a name with control characters; rename it" in done.output
        assert done.output.count("\n") == 1


def test_a_variable_may_hold_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ([f"--candidate-env=A={BREAKS}"], ["--candidate-env", f"A={BREAKS}"]):
        done = run_bench("ab", "--order=odd", *words)
        assert "--order: unknown 'odd'" in done.output


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
@pytest.mark.parametrize("option", ["--output", "--resume", "--cells", "--results", "--data-root"])
def test_no_name_of_an_option_reaches_the_start_of_a_line(suite, option):
    suite.write("def bench_it(cell):\n    cell(torch.neg, cell.tensor(4))\n")
    done = suite.run("--profile=smoke", f"{option}={BREAKS}")
    assert done.ret == 4
    done.stderr.fnmatch_lines([f"ERROR: {option}: * is a name with control characters; rename it"])


WORDS = [
    *("-p", "evil", "--rootdir=/", "--candidate-python=evil", "--candidate-ref=evil"),
    "--candidate-env=LD_PRELOAD=...",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_stored_comparison_chooses_nothing_that_is_run(word, tmp_path, monkeypatch):
    """It started the Python, and set the variables, that ab.json names."""
    monkeypatch.setattr(ab, "run", lambda *_, **__: pytest.fail("it was run"))
    (tmp_path / "ab.json").write_text(json.dumps({"options": [word]}))
    done = run_bench("ab", f"--resume={tmp_path}")
    assert done.exit_code == 2
    assert f"was started with {word}" in " ".join(done.output.split())


@pytest.mark.parametrize("word", ["-p", "evil.py", "--rootdir=/"])
def test_a_stored_fleet_chooses_no_option_of_pytest(word, tmp_path, monkeypatch):
    """The words of fleet.json went to pytest on every machine."""
    pytest.importorskip("distributed", reason="an optional extra")
    monkeypatch.setattr(fleet, "_connected", lambda *_: pytest.fail("it was run"))
    Roster([word], 1, "host").write(tmp_path)
    done = run_bench("fleet", f"--resume={tmp_path}")
    assert done.exit_code == 2
    assert word in done.output
    assert "give the same options" in " ".join(done.output.split())


@pytest.mark.parametrize("word", ["--dataset=evil:run", "--model=evil:run"])
def test_a_stored_search_imports_nothing(word, tmp_path):
    made = {"options": [word], "machine": "here", "trials": [], "winner": None, "proof": {}}
    path = tmp_path / "study.json"
    path.write_text(json.dumps(made))
    with pytest.raises(study.CannotTune, match=f"was started with {word}; give the same options"):
        study.resume(path, [], "here", [])
    assert "evil" not in sys.modules


@pytest.mark.parametrize("command", ["ab", "fleet"])
def test_no_stored_word_reaches_the_start_of_a_line(command, tmp_path):
    if command == "fleet":
        pytest.importorskip("distributed", reason="an optional extra")
    Roster([BREAKS], 1, "host").write(tmp_path)
    (tmp_path / "ab.json").write_text(json.dumps({"options": [BREAKS]}))
    done = run_bench(command, f"--resume={tmp_path}")
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if "evil" in line]
    assert line.startswith("bench: --resume: ")
