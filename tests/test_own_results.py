"""Whose results a command reads: this machine's own by default, and examples only by name."""

import pytest

import bench
from bench.compare import files
from bench.measure import environment
from tests.helpers.command import run_bench
from tests.helpers.frames import store


def invoke(*words):
    return run_bench(*words)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the example of a machine in its results."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "results" / "examples" / "mine"
    place.mkdir(parents=True)
    store(place / "a.csv", {"machine": "mine", "median_s": 1.0, "run_id": "shipped"})
    return tmp_path


def own(folder, machine="mine", **columns):
    place = folder / "results" / machine
    place.mkdir()
    return store(place / "b.csv", {"machine": machine, "median_s": 2.0} | columns)


def test_a_folder_of_results_does_not_include_the_examples(folder):
    own(folder)
    assert files.read(["results"]).median_s.tolist() == [2.0]
    done = invoke("verdict")
    assert done.exit_code == 0
    assert done.output.startswith("mine, 1 run")


def test_examples_are_marked_and_pooled_with_nothing(folder):
    path = own(folder)
    frame = files.read([path, "results/examples"])
    assert dict(zip(frame.machine, frame.median_s, strict=True)) == {
        "mine": 2.0,
        "mine (example)": 1.0,
    }


def test_a_bad_file_in_a_folder_is_named_and_costs_no_other(folder):
    own(folder)
    (folder / "results" / "bad.csv").write_text("a,b\n1,2\n")
    done = invoke("verdict")
    assert done.exit_code == 0
    assert "mine, 1 run" in done.output
    assert "bad.csv, line 1, column schema_version" in done.output


def test_with_examples_alone_a_line_says_what_to_do(folder):
    for words in (("verdict",), ("verdict", "results"), ("card",), ("compare",), ("history",)):
        done = invoke(*words)
        assert done.exit_code == 2
        assert "only examples" in done.output
        assert "bench run" in done.output


def test_without_a_folder_a_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("verdict")
    assert done.exit_code == 2
    assert "bench run --profile quick" in done.output


def test_of_several_machines_this_one_is_meant(folder, monkeypatch):
    own(folder)
    own(folder, "other")
    monkeypatch.setattr(environment, "machine_label", lambda *_: "other")
    assert invoke("verdict").output.startswith("other, 1 run")
    monkeypatch.setattr(environment, "machine_label", lambda *_: "new")
    done = invoke("verdict")
    assert done.exit_code == 2
    assert "mine, other, and none of this machine (new)" in done.output


def test_the_last_run_decides_which_torch_comes_first(folder):
    rows = [
        {"benchmark": "a", "torch": "2.6.0", "run_id": "1", "run_started": "2025-01-01T00:00:00Z"},
        {"benchmark": "a", "torch": "2.7.0", "run_id": "2", "run_started": "2025-02-01T00:00:00Z"},
    ]
    text = invoke("verdict", store(folder / "c.csv", *rows)).output
    assert text.index("torch 2.7.0") < text.index("torch 2.6.0")


def test_best_reads_this_machine_and_its_last_torch(folder):
    step = {"family": "training", "benchmark": "step", "items": 64}
    place = folder / "results" / "mine"
    place.mkdir()
    store(
        place / "b.csv",
        *(
            {
                "machine": "mine",
                "run_id": run,
                "torch": torch,
                "run_started": when,
                "median_s": seconds,
                "params": "batch=64",
                **step,
            }
            for run, torch, when, seconds in (
                ("1", "2.6.0", "2025-01-01T00:00:00Z", 0.1),
                ("2", "2.7.0", "2025-02-01T00:00:00Z", 0.2),
            )
        ),
    )
    assert bench.best()["samples_per_s"] == pytest.approx(320)
