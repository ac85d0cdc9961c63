"""`bench history`: levels that changed are found, noise is not."""

import json
import math
import random

import numpy as np
import pytest
from markdown_it import MarkdownIt

from bench.compare import observations
from bench.gate import history
from bench.records.writer import Writer
from bench.stats import changepoints
from tests.helpers.command import run_bench
from tests.helpers.frames import HOSTILE, frame, row


def logs(*levels, noise=0.02, outliers=0.0, seed=1):
    """Logarithms around levels, each given with its length; a share of them are outliers."""
    source = random.Random(seed)

    def one(level):
        outlier = source.expovariate(1 / 0.3) if source.random() < outliers else 0.0
        return source.gauss(math.log(level), noise) + outlier

    return [one(level) for level, n in levels for _ in range(n)]


def steps(series):
    """The steps of one series of a run a session."""
    return changepoints.find([series], [[1] * len(series)])[0]


@pytest.mark.parametrize("outliers", [0.0, 0.05])
def test_noise_and_outliers_have_no_steps(outliers):
    """Of 100 unchanged series of 40 sessions, two with a step at most."""
    found = [steps(logs((1, 40), outliers=outliers, seed=seed)) for seed in range(100)]
    assert sum(map(bool, found)) <= 2


@pytest.mark.parametrize("factor", [1.10, 0.8, 3.0])
def test_a_step_is_found_where_it_is(factor):
    hits = 0
    for seed in range(40):
        found = steps(logs((1, 20), (factor, 20), seed=seed))
        hits += len(found) == 1 and abs(found[0][0] - 20) <= 1
    assert hits >= 36


def test_one_bad_run_is_no_new_level_and_there_may_be_several_levels():
    assert steps(logs((1, 10), (4, 1), (1, 10))) == []
    assert steps(logs((1, 2), (2, 2))) == []
    (up, down) = steps(logs((1, 10), (2, 10), (1, 10)))
    assert (up[0], down[0]) == (10, 20)
    assert up[1] == pytest.approx(-down[1], abs=0.05) == pytest.approx(math.log(2), abs=0.05)


def of_sessions(count, step=1.0, states=0.0, seed=1, cells=40):
    """Forty cells in sessions of five runs that differ by 3 %, a tenth of them with a step."""
    source = np.random.default_rng(seed)
    y = source.normal(0, 0.03, (cells, count, 1)) + source.normal(0, 0.01, (cells, count, 5))
    y += states * (source.random(y.shape) < 0.5)
    y[: cells // 10, count // 2 :] += math.log(step)
    return changepoints.find(y.mean(axis=2).tolist(), [[5] * count] * cells)


@pytest.mark.parametrize("states", [0.0, 0.14])
@pytest.mark.parametrize("count", [4, 10, 40])
def test_sessions_that_differ_have_no_steps(count, states):
    """Of 400 unchanged cells, eight at most."""
    found = [of_sessions(count, states=states, seed=seed) for seed in range(10)]
    assert sum(bool(each) for suite in found for each in suite) <= 8


def test_a_step_between_sessions_is_found():
    found = [of_sessions(10, 1.10, seed=seed)[:4] for seed in range(20)]
    assert sum(bool(each) for suite in found for each in suite) >= 64


def test_runs_of_one_session_are_no_history():
    """However far the second half of them is off."""
    rows = [r | {"run_started": f"2026-01-01T00:{n:02}:00Z"} for n, r in enumerate(runs(3.0))]
    assert all(one.changes == () for one in history.series(frame(*rows), 0.05))
    starts = ["2026-01-01T00:00:00Z", "2026-01-01T00:50:00Z", "2026-01-01T03:00:00Z", "unknown"]
    rows = [{"run_started": start, "machine": m} for m in ("here", "there") for start in starts]
    assert observations.sessions(frame(*rows[::-1])).tolist() == [6, 5, 4, 4, 3, 2, 1, 1]


def runs(factor=1.3, machine="here", **columns):
    """Rows of twenty runs; from the twelfth on torch is another one."""
    source = random.Random(4)
    rows = []
    for run in range(20):
        later = run >= 12
        for params, slow in (("n=1", 1.0), ("n=2", factor)):
            seconds = 1e-3 * (slow if later else 1) * source.lognormvariate(0, 0.01)
            rows.append(
                {"run_id": f"{run}", "run_started": f"2026-01-{run + 1:02}T00:00:00Z"}
                | {"params": params, "machine": machine, "min_s": seconds, "median_s": 2 * seconds}
                | {"torch": "2.12" if later else "2.11"}
                | columns
            )
    return rows


def test_a_change_is_reported_with_its_time_and_its_cause():
    first, second = history.series(frame(*runs()), 0.05)
    assert first.changes == ()
    (change,) = second.changes
    assert change.started == "2026-01-13T00:00:00Z"
    assert change.change == pytest.approx(0.3, abs=0.03)
    assert change.causes == ("torch 2.11 -> 2.12",)
    assert history.series(frame(*runs()), 0.5)[1].changes == ()


def test_machines_and_threads_have_histories_of_their_own():
    both = [*runs(), *runs(machine="there"), *runs(machine="there", threads=8)]
    found = history.series(frame(*both), 0.05)
    assert [(s.machine, s.threads) for s in found[::2]] == [
        ("here", "4"),
        ("there", "4"),
        ("there", "8"),
    ]


@pytest.fixture
def shown(tmp_path):
    """Write rows and run the command on them."""

    def run(rows, *words):
        writer = Writer(tmp_path / "all.csv")
        for columns in rows:
            writer.append(row(**columns))
        writer.close()
        return run_bench("history", str(tmp_path / "all.csv"), *words)

    return run


def test_the_command_shows_what_changed(shown):
    done = shown(runs())
    assert done.exit_code == 0, done.output
    assert "here, 4 threads: 2 cells in 20 runs from 2026-01-01" in done.output
    assert "1 changed" in done.output
    assert "cat cpu float32 n=2" in done.output
    assert "2026-01-13T00:00:00Z: +30% (torch 2.11 -> 2.12)" in done.output
    assert "n=1" not in done.output


def test_one_run_is_in_the_singular(shown):
    text = " ".join(shown(runs()[:2]).output.split())
    assert text.startswith("here, 4 threads: 2 cells in 1 run from 2026-01-01T00:00:00Z, 0 changed")


def test_all_cells_json_and_markdown(shown):
    assert "n=1" in shown(runs(), "--all").output


def test_json_holds_every_time(shown):
    (one,) = json.loads(shown(runs(), "--format", "json").output)
    assert len(one["seconds"]) == 20
    assert one["changes"][0]["run"] == 12


def test_markdown_is_a_table_and_hostile_names_stay_text(shown):
    done = shown(runs(benchmark=HOSTILE), "--format", "markdown")
    page = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(done.output)
    assert page.count("<table>") == 1
    assert "<script" not in page


def test_without_files_and_results_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_bench("history")
    assert done.exit_code == 2
    assert "results" in done.output
    done = run_bench("history", "--format", "odd")
    assert "--format: unknown 'odd'; known: terminal, markdown, json" in done.output
