"""`bench ab` and `bench check --confirm`: a screen of two sides in turn, fresh runs to confirm."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.gate.reason import reason
from bench.gate.settings import Limits
from bench.launch import ab as engine
from bench.launch import command, runner, sides
from bench.launch.command import CannotRun
from bench.launch.sides import Side
from bench.records import reader
from bench.records.writer import CannotWrite
from bench.stats import multiplicity
from tests.helpers.command import run_bench
from tests.helpers.listeners import RunListener
from tests.helpers.processes import CELLS, Machine


@pytest.fixture
def machine(monkeypatch):
    """A machine without processes; the candidate is known by an environment variable."""
    made = Machine()
    monkeypatch.setattr(runner, "run", made.run)
    monkeypatch.setattr(sides, "_probe", lambda place, name: None)
    return made


BOTH = [Side(), Side(env={"SIDE": "candidate"})]


def compared(folder, plan=None, **settings):
    listener = RunListener()
    outcome = engine.run(BOTH, plan or engine.Plan(), Limits(), folder, listener, **settings)
    return outcome, listener


def regressed(outcome):
    return [cell.key[-1] for cell in outcome.cells if cell.verdict == "regressed"]


@pytest.mark.integration
def test_one_environment_against_itself_passes_ten_times(machine, tmp_path):
    codes = [compared(tmp_path / str(n))[0].code for n in range(10)]
    assert codes == [0] * 10


@pytest.mark.integration
def test_a_slowed_operation_is_named_alone(machine, tmp_path):
    machine.slow = {"n=3": 1.15}
    found = [compared(tmp_path / str(n))[0] for n in range(10)]
    assert sum(o.code == 1 and regressed(o) == ["n=3"] for o in found) >= 9


def test_sides_take_turns_and_only_suspects_are_confirmed(machine, tmp_path):
    machine.slow = {"n=3": 1.5}
    machine.noise = 0.001
    outcome, listener = compared(tmp_path / "ab", engine.Plan(arguments=("-k", "op")))
    first = [side[0] for side, _ in machine.order[:6]]
    assert first == ["b", "c", "c", "b", "b", "c"]
    assert listener.stages == [("screen", 6), ("confirm", 10)]
    assert listener.runs == [*range(1, 7), *range(1, 11)]
    assert listener.lines[1:] == ["1 of 20 cells to confirm"]
    assert machine.order[6][1][:2] == ["-k", "op"]
    assert len(reader.read(tmp_path / "ab" / "confirm-candidate.csv")) == 5
    assert len(reader.read(tmp_path / "ab" / "candidate.csv")) == 60
    assert outcome.notes[:2] == [
        reason("screened", cells=20, baseline=3, candidate=3),
        reason("confirmed", cells=1, baseline=5, candidate=5),
    ]


def test_what_is_confirmed_is_judged_on_the_fresh_runs_alone(machine, tmp_path, monkeypatch):
    """A outlier of the screen, however large, is cleared by the fresh runs."""
    machine.noise = 0.001
    real = machine.run

    def run(words, *rest, **more):
        machine.slow = {} if any("--cells" in word for word in words) else {"n=3": 3.0}
        return real(words, *rest, **more)

    monkeypatch.setattr(runner, "run", run)
    outcome, _ = compared(tmp_path / "ab")
    assert outcome.code == 0
    (cell,) = [cell for cell in outcome.cells if cell.key[-1] == "n=3"]
    assert cell.verdict == "same"
    assert abs(cell.change) < 0.01


def test_everything_slower_is_found_since_nothing_shifts_between_turns(machine, tmp_path):
    machine.slow = {cell[-1]: 1.3 for cell in CELLS}
    outcome, _ = compared(tmp_path / "ab")
    assert len(regressed(outcome)) == 20


def test_errors_and_missing_cells_are_reported_without_confirming(machine, tmp_path):
    machine.noise = 0.001
    machine.columns = {("candidate", "n=1"): {"status": "wrong", "reason": "off by 2"}}
    outcome, listener = compared(tmp_path / "ab")
    assert (outcome.code, listener.stages) == (1, [("screen", 6)])
    worst = outcome.cells[0]
    assert (worst.verdict, worst.reason) == ("errored", reason("status", seen="wrong: off by 2"))


def test_cells_that_could_not_be_timed_are_tried_again(machine, tmp_path):
    machine.noise = 0.001
    machine.columns = {("candidate", "n=1"): {"status": "unstable", "reason": "a neighbour"}}
    outcome, listener = compared(tmp_path / "ab")
    assert listener.lines[1:] == ["1 of 20 cells to confirm"]
    assert listener.stages[1:] == [("confirm", 2 * runs) for runs in range(5, 11)]
    assert outcome.code == 0
    (cell,) = [cell for cell in outcome.cells if cell.verdict == "inconclusive"]
    assert cell.reason == reason("status", seen="unstable: a neighbour")


@pytest.mark.parametrize("side", ["baseline", "candidate"])
def test_a_cell_that_was_timed_on_one_side_only_is_confirmed_and_not_cleared(
    machine, tmp_path, side
):
    machine.noise = 0.001
    machine.columns = {(side, "n=1"): {"status": "unstable", "reason": "a neighbour"}}
    outcome, listener = compared(tmp_path / "ab")
    assert listener.lines[1:] == ["1 of 20 cells to confirm"]
    (cell,) = [cell for cell in outcome.cells if cell.key[-1] == "n=1"]
    assert cell.verdict == "inconclusive"
    assert cell.reason.figures["seen"] == "unstable: a neighbour"


def test_a_cell_that_was_unstable_on_both_sides_is_confirmed(machine, tmp_path, monkeypatch):
    machine.noise = 0.001
    real = machine.run
    unstable = {"status": "unstable", "reason": "a neighbour"}

    def run(words, *rest, **more):
        both = {} if any("--cells" in word for word in words) else {"n=1": unstable}
        machine.slow = {"n=1": 1.5}
        machine.columns = {(side, n): u for side in engine.SIDES for n, u in both.items()}
        return real(words, *rest, **more)

    monkeypatch.setattr(runner, "run", run)
    outcome, _ = compared(tmp_path / "ab")
    assert (outcome.code, regressed(outcome)) == (1, ["n=1"])


@pytest.mark.integration
@pytest.mark.parametrize("killed_at", [(1, 0), (1, 5), (4, 0), (4, 19), (7, 0), (12, 0)])
def test_what_was_cut_off_is_gone_on_with(machine, tmp_path, killed_at):
    machine.slow = {"n=3": 1.5, "n=4": 1.5}
    machine.noise = 0.001
    machine.killed_at = killed_at
    with pytest.raises(CannotRun, match="was stopped"):
        compared(tmp_path / "ab")
    machine.killed_at = None
    outcome, _ = compared(tmp_path / "ab")
    assert sorted(regressed(outcome)) == ["n=3", "n=4"]
    for name, runs, cells in (("baseline", 3, 20), ("confirm-candidate", 5, 2)):
        rows = reader.read(tmp_path / "ab" / f"{name}.csv")
        assert list(rows.groupby("run_id").size()) == [cells] * runs


def test_the_order_may_be_random_and_is_the_same_when_resumed():
    plan = engine.Plan(order="random")
    assert plan.sequence(5) == plan.sequence(8)[:10]
    assert sorted(plan.sequence(5)) == ["baseline"] * 5 + ["candidate"] * 5
    assert len({tuple(engine.Plan(order="random", seed=n).sequence(5)) for n in range(9)}) > 1


@pytest.fixture
def ab(machine, tmp_path, monkeypatch):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words, command="ab"):
        return run_bench(command, *words)

    return run


CANDIDATE = ("--candidate-env", "SIDE=candidate")


def test_the_command_says_what_it_found_and_exits_by_it(ab, machine, tmp_path):
    machine.slow = {"n=3": 1.5}
    done = ab(*CANDIDATE, "--folder", "mine", "--format", "json", "-o", "out.json", "-k", "op")
    assert done.exit_code == 1, done.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert [c["params"] for c in found["cells"] if c["verdict"] == "regressed"] == ["n=3"]
    assert "candidate: SIDE=...; in mine" in done.output
    again = ab(*CANDIDATE, "--resume", "mine", "-k", "op")
    assert again.exit_code == 1
    assert "op3 cpu float32 n=3" in again.output
    assert "was started with" in ab("--resume", "mine", "--threshold", "9").output
    assert "SIDE=candidate" not in (tmp_path / "mine" / "ab.json").read_text()
    stored = ("mine/confirm-candidate.csv", "--baseline", "mine/confirm-baseline.csv")
    assert ab(*stored, command="check").exit_code == 1


def test_what_is_gone_on_with_is_judged_as_it_was_begun(ab, machine, tmp_path):
    machine.slow = {"n=3": 1.3}
    words = ("--threshold", "50", "--folder", "mine", "--summary", "summary.md")
    assert ab(*CANDIDATE, *words).exit_code == 0
    again = ab(*CANDIDATE, "--threshold", "50", "--resume", "mine", "--summary", "summary.md")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "summary.md").read_text().count(": 20 same") == 2


def test_a_stored_comparison_chooses_no_program(ab, machine, tmp_path):
    """The Python and the variables that ab.json named were run."""
    assert ab("--candidate-env", "SIDE=candidate", "--folder", "mine").exit_code == 0
    path = tmp_path / "mine" / "ab.json"
    path.write_text(path.read_text().replace("--candidate-env=SIDE=...", "--candidate-python=evil"))
    before = len(machine.order)
    done = ab("--resume", "mine")
    assert done.exit_code == 2
    assert "--candidate-python=evil" in done.output
    assert len(machine.order) == before


@pytest.mark.parametrize("words", [(), ("--baseline-threads=2", "--candidate-threads=2")])
def test_sides_that_do_not_differ_are_one_line(ab, machine, words):
    done = ab(*words)
    assert done.exit_code == 2
    assert re.search("both sides are (this environment|2 threads): say what differs", done.output)
    assert machine.order == []


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        ("", "the repository here has no commit 'nosuch'"),
        (
            "fatal: not a git repository\n",
            "fatal: not a git repository; run this in the repository",
        ),
    ],
)
def test_a_ref_that_is_not_there_is_one_line(ab, machine, monkeypatch, printed, line):
    monkeypatch.chdir(Path(__file__).parent)
    answer = SimpleNamespace(returncode=1, stderr=printed, stdout="")
    monkeypatch.setattr(sides.subprocess, "run", lambda *_, **__: answer)
    done = ab("--baseline-ref", "nosuch")
    assert done.exit_code == 2
    assert done.output.strip().splitlines()[-1].startswith(f"bench: --baseline-ref: {line}")


def test_a_file_that_a_full_disk_left_empty_is_written_again(machine, tmp_path):
    (tmp_path / "candidate.csv").touch()
    outcome, _ = compared(tmp_path)
    assert outcome.code == 0
    assert len(reader.read(tmp_path / "candidate.csv")) == 60


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device", "x.csv"), None])
def test_a_full_disk_is_one_line(ab, machine, tmp_path, monkeypatch, problem):
    def full(*words, **more):
        raise problem or CannotWrite("cannot write x.csv: No space left on device; make room")

    monkeypatch.setattr(runner, "run", full)
    done = ab(*CANDIDATE)
    assert done.exit_code == 2
    assert "x.csv: No space left on device" in done.output
    assert "Traceback" not in done.output
    assert not isinstance(done.exception, OSError)


def test_a_side_that_lost_all_its_rows_is_timed_again(machine, tmp_path):
    machine.noise = 0.001
    compared(tmp_path)
    path = tmp_path / "candidate.csv"
    path.write_text(path.read_text().partition("\n")[0] + "\n")
    machine.order.clear()
    assert compared(tmp_path)[0].code == 0
    assert [side for side, _ in machine.order].count("candidate") == 3
    assert len(reader.read(path)) == 60


def test_ctrl_c_ends_with_the_folder_that_continues(ab, machine, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda words, runs, file, *_, **__: (runner.STOPPED, file))
    done = ab(*CANDIDATE, "--folder", "mine")
    assert done.exit_code == 130
    assert "bench: the baseline was stopped;" in done.output
    assert "continue with --resume mine" in " ".join(done.output.split())


def test_threads_go_to_their_side(ab, machine):
    done = ab(*CANDIDATE, "--baseline-threads", "1", "--candidate-threads", "2")
    assert done.exit_code == 0, done.output
    assert {(side, w) for side, words in machine.order for w in words if "threads" in w} == {
        ("baseline", "--threads=1"),
        ("candidate", "--threads=2"),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--candidate-env", "SIDE"], "--candidate-env: 'SIDE' is not NAME=VALUE"),
        (["--candidate-python", "nowhere"], "--candidate-python: no Python at nowhere"),
        (["--order", "odd"], "--order: unknown 'odd'; known: abba, random"),
        (["--format", "odd"], "--format: unknown 'odd'"),
        (["--candidate-ref", "x"], "--candidate-ref: fatal: not a git repository"),
        (["--resume", "nowhere"], f"--resume: {Path('nowhere', 'ab.json')}: No such file"),
        (["--resume", "full"], "ab.json: No such file"),
        (["--folder", "full"], "full is not empty"),
    ],
)
def test_bad_input_is_one_line(ab, tmp_path, words, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    done = ab(*words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.fixture
def stored(machine, tmp_path):
    """Files of both sides, five runs each, made on another day."""

    def make(**slow):
        machine.slow = slow
        for side in engine.SIDES:
            place = command.Installation(env={"SIDE": ""} if side == "candidate" else {})
            file = tmp_path / f"{side}.csv"
            for _ in range(5):
                machine.run([], 1, file, None, RunListener(), place, append=file.exists())
        machine.order.clear()
        return [f"{tmp_path / 'candidate'}.csv", "--baseline", f"{tmp_path / 'baseline'}.csv"]

    return make


def test_confirm_judges_the_flagged_cells_on_fresh_runs(ab, machine, stored):
    machine.noise = 0.001
    files = stored(**{"n=3": 1.3})
    assert ab(*files, command="check").exit_code == 1
    machine.slow = {}  # it was a bad moment
    done = ab(*files, *CANDIDATE, "--confirm", "--folder", "again", command="check")
    assert done.exit_code == 0, done.output
    assert "1 of 20 cells to confirm" in done.output
    assert [side for side, _ in machine.order] == ["candidate"] * 5
    machine.slow = {"n=3": 1.3}
    done = ab(*files, *CANDIDATE, "--confirm", command="check")
    assert done.exit_code == 1
    assert re.search(r"^regressed .* op3 cpu float32 n=3", done.output, re.M)


@pytest.mark.parametrize("factor", [1.08, 1.3])
def test_many_slow_cells_are_no_shift_of_the_machine(ab, machine, stored, factor):
    """The cells that were picked for having moved do not show how far the machine has."""
    machine.noise = 0.001
    # Not by one factor: a group of benchmarks that moved alike is what two machines differ by.
    slow = {f"n={number}": factor ** (1.2**number) for number in range(9)}
    done = ab(*stored(**slow), *CANDIDATE, "--confirm", "--format=json", command="check")
    assert done.exit_code == 1
    assert done.stdout.count('"verdict": "regressed"') == 9
    assert {word for _, words in machine.order for word in words if "cells" not in word} == {
        "--device=cpu",
        "--threads=4",
    }


def test_a_second_look_at_runs_that_picked_the_suspects_counts_all_cells():
    """Of a p-value the best of forty, a correction for one alone would make too much."""
    assert multiplicity.holm([0.01], tests=40).tolist() == [pytest.approx(0.4)]
    alone = multiplicity.holm([0.01, 0.02]).tolist()
    assert multiplicity.holm([0.01, 0.02], tests=1).tolist() == alone


def test_a_baseline_that_can_be_run_is_timed_beside(ab, machine, stored):
    files = stored(**{"n=3": 1.5})
    words = ("--confirm", *CANDIDATE, "--baseline-env", "X=1")
    assert ab(*files, *words, command="check").exit_code == 1
    assert [side for side, _ in machine.order].count("baseline") == 5


def test_nothing_suspicious_is_nothing_to_confirm(ab, machine, stored):
    machine.noise = 0.001
    done = ab(*stored(), "--confirm", command="check")
    assert done.exit_code == 0
    assert machine.order == []
