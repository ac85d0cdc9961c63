"""The rows of a fleet: one file per machine, while others fail, stop or go on."""

import contextlib
import threading

import pytest

from bench.records import reader
from tests.helpers.clusters import Client, Future, as_csv
from tests.helpers.command import run_bench
from tests.helpers.listeners import FleetListener

pytest.importorskip("distributed", reason="an optional extra")

from bench.cli import fleet as command
from bench.launch import cluster
from bench.launch.cluster import Node
from bench.launch.roster import Roster


@pytest.fixture
def quick(monkeypatch):
    """No waiting for what cannot come."""
    monkeypatch.setattr(cluster, "POLL_S", 0.01)
    monkeypatch.setattr(cluster, "LOST_S", 0.05)
    monkeypatch.setattr(cluster, "GRACE_S", 0.2)
    monkeypatch.setattr(cluster, "Event", lambda *_, **__: threading.Event())


def measured(client, folder, *nodes, limit_s=0.1):
    listener = FleetListener()
    folder.mkdir(exist_ok=True)
    fleet = cluster.Fleet(client, folder, [], 1, limit_s, listener)
    return {one.label: one for one in fleet.measure(nodes)}, listener


@pytest.mark.usefixtures("quick")
def test_rows_come_into_a_file_a_machine_and_failures_stay_alone(tmp_path):
    gone = Client(
        x1=Future((0, as_csv("n1"))),
        x2=Future(problem=RuntimeError("boom")),
        x3=Future((1, as_csv("n3", 2) + "half a")),
        x4=Future(),
    )
    nodes = [Node(f"n{n}", f"x{n}", f"h{n}", {}) for n in range(1, 5)]
    found, listener = measured(gone, tmp_path / "f", *nodes)
    assert {label: (e.code, e.rows) for label, e in found.items()} == {
        "n1": (0, 3),
        "n2": (None, 0),
        "n3": (1, 2),
        "n4": (None, 0),
    }
    assert found["n2"].reason == "RuntimeError: boom"
    assert found["n4"].reason.startswith("hangs: no answer")
    assert len(listener.ended) == 4
    assert len(reader.read(tmp_path / "f" / "n1.csv")) == 3
    assert len(reader.read(tmp_path / "f" / "n3.csv")) == 2


@pytest.mark.usefixtures("quick")
def test_a_row_that_is_none_costs_its_machine_alone(tmp_path):
    header = as_csv("x", 0)
    client = Client(x1=Future((0, header + "not,a,row\n")), x2=Future((0, as_csv("n2"))))
    nodes = [Node("n1", "x1", "h1", {}), Node("n2", "x2", "h2", {})]
    found, _ = measured(client, tmp_path / "f", *nodes)
    assert "3 fields where the header has" in found["n1"].reason
    assert found["n2"].rows == 3


@pytest.mark.usefixtures("quick")
def test_a_machine_whose_file_is_damaged_costs_itself_alone(tmp_path):
    (tmp_path / "n1.csv").write_text("no,result\n1,2\n")
    client = Client(x1=Future((0, as_csv("n1"))), x2=Future((0, as_csv("n2"))))
    nodes = [Node("n1", "x1", "h1", {}), Node("n2", "x2", "h2", {})]
    found, listener = measured(client, tmp_path, *nodes)
    assert (found["n2"].code, found["n2"].rows) == (0, 3)
    assert found["n1"].code is None
    assert "n1.csv, line 1" in found["n1"].reason
    assert ("n1", 0, found["n1"].reason) in listener.ended
    assert (tmp_path / "n1.csv").read_text() == "no,result\n1,2\n"


def test_ctrl_c_ends_with_the_command_that_continues(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_connected", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "find", lambda client, known: ([Node("n1", "x1", "h1", {})], []))
    monkeypatch.setattr(cluster.Fleet, "measure", stopped)
    done = run_bench("fleet", "--folder", str(tmp_path / "mine"), "-k", "neg")
    assert done.exit_code == 130
    words = f"bench fleet --resume {tmp_path / 'mine'} --per=host --runs=1 -k neg"
    assert f"bench: stopped; continue with {words}" in " ".join(done.output.split())
    assert Roster.read(tmp_path / "mine").machines == {}


@pytest.mark.usefixtures("quick")
def test_a_fleet_that_is_stopped_keeps_the_rows_of_the_last_cell(tmp_path, monkeypatch):
    client = Client(x1=Future())
    event = threading.Event()
    event.set = lambda: setattr(client.futures["x1"], "outcome", (130, as_csv("n1")))
    monkeypatch.setattr(cluster, "Event", lambda *_, **__: event)
    fleet = cluster.Fleet(client, tmp_path, [], 1, 60, FleetListener())

    def stop():
        del fleet._listen
        raise KeyboardInterrupt

    fleet._listen = stop
    with pytest.raises(KeyboardInterrupt):
        next(fleet.measure([Node("n1", "x1", "h1", {})]))
    assert len(reader.read(tmp_path / "n1.csv")) == 3


@pytest.mark.usefixtures("quick")
def test_rows_are_on_disk_while_their_machine_goes_on(tmp_path):
    client = Client(x1=Future(), x2=Future())
    nodes = [Node("n1", "x1", "h1", {}), Node("n2", "x2", "h2", {})]
    lines = reader.lines(as_csv("n1"))

    def send():
        client.handlers["n2"]((0, {"rows": [["no", "row"]]}))
        client.handlers["n1"]((0, {"rows": lines[:2]}))
        client.handlers["n1"]((0, {"message": "a line"}))

    timer = threading.Timer(0.05, send)
    timer.start()
    found, listener = measured(client, tmp_path / "f", *nodes, limit_s=0.3)
    assert (found["n1"].rows, found["n2"].rows) == (2, 0)
    assert len(reader.read(tmp_path / "f" / "n1.csv")) == 2
    assert ("n1", "a line") in listener.lines
    assert any(label == "n2" and "2 fields where" in line for label, line in listener.lines)


@pytest.mark.usefixtures("quick")
def test_rows_of_later_visits_replace_those_that_came_while_the_machine_went_on(tmp_path):
    client = Client(x1=Future())

    def send():
        client.handlers["n1"]((0, {"rows": reader.lines(as_csv("n1", rounds=1))}))
        client.futures["x1"].outcome = (0, as_csv("n1", rounds=5))

    timer = threading.Timer(0.05, send)
    timer.start()
    found, _ = measured(client, tmp_path / "f", Node("n1", "x1", "h1", {}), limit_s=60)
    assert found["n1"].rows == 3
    assert reader.read(tmp_path / "f" / "n1.csv").rounds.tolist() == [5, 5, 5]


@pytest.mark.usefixtures("quick")
def test_two_workers_of_one_host_never_measure_at_once(tmp_path):
    client = Client(x1=Future(), x2=Future((0, as_csv("n2"))))
    nodes = [Node("n1", "x1", "h", {}), Node("n2", "x2", "h", {})]
    listener = FleetListener()
    (tmp_path / "f").mkdir()
    ended = cluster.Fleet(client, tmp_path / "f", [], 1, 5, listener).measure(nodes)
    client.futures["x1"].outcome = None
    at_first = []

    def finish():
        at_first.append([address for address, _ in client.submitted])
        client.futures["x1"].outcome = (0, as_csv("n1"))

    timer = threading.Timer(0.3, finish)
    timer.start()
    assert [one.label for one in ended] == ["n1", "n2"]
    assert at_first == [["x1"]]


@pytest.mark.usefixtures("quick")
def test_rows_that_are_there_already_are_not_written_twice(tmp_path):
    client = Client(x1=Future((0, as_csv("n1", 2))))
    measured(client, tmp_path / "f", Node("n1", "x1", "h", {}))
    client.futures["x1"].outcome = (0, as_csv("n1", 3))
    found, _ = measured(client, tmp_path / "f", Node("n1", "x1", "h", {}))
    assert found["n1"].rows == 1
    assert client.submitted[1][1][3].count("\n") == 3
    assert len(reader.read(tmp_path / "f" / "n1.csv")) == 3
