"""`bench fleet`: every machine of a cluster, and what becomes of the others when one is lost."""

import gc
import json
import os
import re
import subprocess
import sys
import time

import psutil
import pytest
from typer import Exit

from bench.records import reader
from tests.helpers.clusters import Client, Future, described
from tests.helpers.command import run_bench

pytest.importorskip("distributed", reason="an optional extra")

from bench.cli import fleet as command
from bench.launch import cluster
from bench.launch.cluster import Node
from bench.launch.roster import PER, Roster, UnknownMachine

WORDS = ("--profile", "smoke", "--device", "cpu", "--dtype", "float32")
#: Twenty cells; machine b2 stops before the fifth one until a file exists.
STOPS = """
import sys, time, pathlib, pytest, torch

@pytest.mark.parametrize("n", range(1, 21))
def bench_neg(cell, n):
    continues = pathlib.Path(__file__).with_name("continue")
    while n == 5 and "--machine=b2" in sys.argv and not continues.exists():
        time.sleep(0.02)
    cell(torch.neg, cell.tensor(n))
"""


@pytest.fixture(scope="module")
def dask(python, tmp_path_factory):
    """A scheduler and three workers on loopback, started with Dask's own commands."""
    tmp_path = tmp_path_factory.mktemp("dask")
    env = os.environ | {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    started = []

    def start(*words):
        log = (tmp_path / f"{len(started)}.log").open("w")
        process = subprocess.Popen(
            [python, "-m", "dask", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
        )
        started.append(process)
        return process, tmp_path / f"{len(started) - 1}.log"

    _, log = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    address = wait_for(lambda: re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text()))[0]
    own = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    workers = {name: start("worker", address, "--name", name, *own) for name in ("a1", "b2", "c3")}
    for _, log in workers.values():
        wait_for(lambda log=log: "Registered to" in log.read_text())
    yield address, {name: process for name, (process, _) in workers.items()}
    for process in reversed(started):
        end(process)


def end(process):
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(look, limit_s=60):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing within {limit_s} s")


def suites():
    """The processes that time the suite now for a fleet; others may do so for themselves."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if "bench.plugin.progress" in words and "bench-fleet-" in " ".join(words):
            found.append(process)
    return found


@pytest.mark.integration
def test_three_workers_one_of_which_is_killed_while_it_measures(dask, python, tmp_path):
    """Two are complete, the third is reported, and --resume measures what is missing."""
    address, workers = dask
    folder = tmp_path / "fleet"
    words = [python, "-m", "bench", "fleet", "--scheduler", address, "--per", "worker"]
    (tmp_path / "bench_stops.py").write_text(STOPS)
    words += ["--folder", str(folder), *WORDS, str(tmp_path / "bench_stops.py")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    victim = folder / "b2.csv"
    wait_for(lambda: victim.exists() and len(victim.read_text().splitlines()) > 1, 120)
    workers["b2"].kill()
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 1, errors
    assert "b2: its worker is gone" in re.sub(r"b2: \d+ rows; ", "b2: ", errors)
    assert f"continue with bench fleet --resume {folder}" in errors
    counts = {path.stem: len(reader.read(path)) for path in folder.glob("*.csv")}
    assert counts["a1"] == counts["c3"] == 20 > 4 >= counts["b2"] >= 1
    assert wait_for(lambda: not suites(), 30)
    (tmp_path / "continue").touch()
    again, _ = dask_worker(python, address, "b2", tmp_path)
    try:
        words = ["--scheduler", address, "--per", "worker", "--resume", str(folder)]
        words += [*WORDS, str(tmp_path / "bench_stops.py")]
        done = run_bench("fleet", *words)
        assert done.exit_code == 0, done.output
    finally:
        end(again)
    rows = reader.read(victim)
    assert len(rows) == counts["a1"]
    assert rows.run_id.nunique() == 1
    assert set(rows.machine) == {"b2"}
    assert not suites()


def dask_worker(python, address, name, tmp_path):
    words = ["worker", address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    log = (tmp_path / "again.log").open("w")
    process = subprocess.Popen(
        [
            python,
            "-m",
            "distributed.cli.dask_" + words[0],
            *words[1:],
            "--host",
            "127.0.0.1",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    wait_for(lambda: "Registered to" in (tmp_path / "again.log").read_text())
    return process, log


@pytest.mark.integration
def test_a_machine_that_is_away_is_named_when_the_others_go_on(dask, tmp_path, monkeypatch):
    """Its label goes to no other one, and no output reports that all is complete."""
    folder = tmp_path / "fleet"
    known = Roster(["-k", "x"], 1, "host", machines={"node-1": "somebody else"})
    folder.mkdir()
    known.write(folder)
    monkeypatch.setattr(cluster.Fleet, "measure", lambda self, nodes: iter(()))
    refused = run_bench("fleet", "--scheduler", dask[0], "--resume", str(folder))
    assert refused.exit_code == 2
    assert "was started with --per=host --runs=1 -k x; give the same options" in refused.output
    done = run_bench("fleet", "--scheduler", dask[0], "--resume", str(folder), "-k", "x")
    assert done.exit_code == 1
    assert "node-1 is missing and not complete" in done.output
    machines = Roster.read(folder).machines
    assert machines.pop("node-1") == "somebody else"
    assert len(machines) == 1


@pytest.mark.integration
def test_a_cluster_without_workers_is_no_success(dask, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find", lambda client, known: ([], []))
    done = run_bench("fleet", "--scheduler", dask[0], "--folder", str(tmp_path / "fleet"))
    assert done.exit_code == 2
    assert "no worker has joined it" in done.output
    assert not (tmp_path / "fleet").exists()


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    for name in ("cluster", "node"):
        monkeypatch.delitem(sys.modules, f"bench.launch.{name}", raising=False)
        monkeypatch.delattr(f"bench.launch.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = run_bench("fleet")
    assert done.exit_code == 2
    assert "pip install 'torch-device-bench[fleet]'" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--per", "rack"], "--per: unknown 'rack'; known: host, worker"),
        (["--resume", "nowhere"], "nowhere/fleet.json was not written by bench fleet"),
        (["--resume", "x", "--folder", "y"], "leave --folder out"),
        (["--folder", "full"], "full is not empty"),
        (["--scheduler", "nonsense://"], "--scheduler nonsense://"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    done = run_bench("fleet", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_a_client_that_cannot_connect_does_not_stay():
    """Collected while another one starts, it would wait for ever for what holds its lock."""
    import distributed

    with pytest.raises(Exit), command._connected("nonsense://", {}):
        pass
    assert not any(isinstance(one, distributed.Client) for one in gc.get_objects())


def test_machines_are_found_once_and_problems_cost_only_themselves():
    client = Client(
        x1=described("node-17", "h1"),
        x2=described("node-17b", "h1"),
        x3=described("tcp://10.0.0.3:1", "h3", address="tcp://10.0.0.3:1"),
        x4=Future(problem=ModuleNotFoundError("No module named 'bench'", name="bench")),
        x5=Future(problem=RuntimeError("torch does\nnot work there: x")),
        x6=Future(),
    )
    nodes, problems = cluster.find(client, Roster([], 1, "host"), limit_s=0.3)
    assert [node.label for node in nodes] == ["node-17", "node-1"]
    assert problems == [
        "x4 lacks the module bench: pip install 'torch-device-bench[fleet]' there",
        "x5: RuntimeError: torch does not work there: x",
        "x6 did not answer within 0 s",
    ]
    assert len(cluster.find(client, Roster([], 1, "worker"), limit_s=0.3)[0]) == 3


def found(roster, *workers):
    """The labels of workers, (name, host, port) each, by host and name or port; no name is ""."""
    by_address = {f"tcp://{host}:{port}": (name, host) for name, host, port in workers}
    futures = {
        address: described(name or address, host, address=address)
        for address, (name, host) in by_address.items()
    }
    nodes, problems = cluster.find(Client(**futures), roster)
    assert problems == []
    return {node.host: node.label for node in nodes}


def again(roster, folder):
    """The roster as the next process reads it."""
    roster.write(folder)
    return Roster.read(folder)


def test_a_machine_keeps_its_label_whichever_others_answer(tmp_path):
    """Also where the first was away at first, or is now; a new one gets a label of its own."""
    first = Roster([], 1, "host")
    assert found(first, ("", "h2", 1), ("", "h3", 1)) == {"h2": "node-1", "h3": "node-2"}
    then = again(first, tmp_path)
    at_last = found(then, ("", "h1", 9), ("", "h3", 8))
    assert at_last == {"h1": "node-3", "h3": "node-2"}
    assert found(again(then, tmp_path), ("", "h2", 7)) == {"h2": "node-1"}


def test_a_name_that_comes_to_another_host_is_another_machine(tmp_path):
    """Names such as SLURMCluster-0 go to whatever node the job gets."""
    first = Roster([], 1, "host")
    assert found(first, ("job-0", "h1", 1), ("job-1", "h2", 1)) == {"h1": "job-0", "h2": "job-1"}
    shifted = found(again(first, tmp_path), ("job-0", "h2", 1), ("job-1", "h3", 1))
    assert shifted == {"h2": "job-1", "h3": "job-1-2"}


def test_workers_of_one_host_are_known_by_name_else_by_place_else_not(tmp_path):
    def labels(roster, *workers):
        client = Client(**{w[0]: described(w[1], "h", address=w[0]) for w in workers})
        return [node.label for node in cluster.find(client, roster)[0]]

    first = Roster([], 1, "worker")
    unnamed = [("tcp://h:1", "tcp://h:1"), ("tcp://h:2", "tcp://h:2")]
    assert labels(first, *unnamed, ("tcp://h:3", "a")) == ["node-1", "node-2", "a"]
    then = again(first, tmp_path)
    assert labels(then, ("tcp://h:0", "a"), *unnamed) == ["a", "node-1", "node-2"]
    assert labels(then, ("tcp://h:5", "a")) == ["a"]
    with pytest.raises(
        UnknownMachine, match="1 workers without a name answer on a host that had 2"
    ):
        labels(then, unnamed[1])


def test_the_longest_name_has_room_for_a_number():
    name = "n" * 80
    roster = Roster([], 1, "host", machines={name: "another"})
    assert found(roster, (name, "h", 1)) == {"h": f"{'n' * 70}-2"}


def test_no_host_is_named_in_what_is_written_down(tmp_path):
    for per in PER:
        roster = Roster([], 1, per)
        found(roster, ("", "secret-host", 1), ("a", "secret-host", 2), ("b", "other-host", 1))
        again(roster, tmp_path)
        text = (tmp_path / "fleet.json").read_text()
        assert "host" not in text.replace('"per": "host"', "")
        other = Roster([], 1, per)
        found(other, ("", "secret-host", 1))
        assert not set(other.machines.values()) & set(roster.machines.values())


def test_versions_that_differ_are_listed_with_who_has_them():
    nodes = [Node(f"n{n}", "", "", {"torch": "2.6" if n < 4 else "2.11"}) for n in range(5)]
    assert cluster.differences(nodes) == ["torch differs: 2.6: n0, n1, n2 and 1 more; 2.11: n4"]
    assert cluster.differences(nodes[:2]) == []
    assert cluster.differences([]) == []


def test_what_is_written_down_is_recalled(tmp_path):
    roster = Roster(["-k", "x"], 2, "worker", ["b", "a"], {"a": "1", "b": "2"})
    roster.write(tmp_path)
    assert Roster.read(tmp_path) == roster


@pytest.mark.parametrize(
    "change", [{"per": "rack"}, {"machines": 3}, {"machines": None}, {"machines": {"../x": "y"}}]
)
def test_what_was_not_written_by_us_is_refused(tmp_path, change, monkeypatch):
    monkeypatch.setattr("bench.cli.fleet._connected", lambda *_: pytest.fail("it was run"))
    Roster([], 1, "host").write(tmp_path)
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    done = run_bench("fleet", "--resume", str(tmp_path))
    assert done.exit_code == 2
    assert "was not written by bench fleet" in " ".join(done.output.split())


def test_what_a_nanny_sets_for_its_workers_does_not_reach_the_suite(monkeypatch):
    """Else everything would be timed on one thread; what the user has set stays."""
    from bench.launch import node

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    node.clear_nanny_variables()
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "3"


@pytest.mark.integration
def test_a_local_cluster_is_this_process_and_leaves_the_environment_alone():
    from bench.cli import fleet

    before = dict(os.environ)
    with fleet._connected(None, {}) as client:
        there = client.submit(os.getpid, pure=False).result()
    assert there == os.getpid()
    assert dict(os.environ) == before
