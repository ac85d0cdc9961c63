"""Cells that a side lacks, that failed, or that have no stable time: their verdict in the gate."""

from itertools import product

import pytest

from bench.gate import check, screen
from bench.gate.reason import reason
from bench.gate.settings import Limits
from bench.records import schema
from tests.helpers.frames import frame
from tests.helpers.gates import (
    KEYS,
    NEW_WITH,
    NEW_WITHOUT,
    WITH,
    WITHOUT,
    judged,
    runs,
    spoiled,
    verdicts,
)


def status(name, code="status"):
    """The reason of a cell that `spoiled` gave that status."""
    return reason(code, seen=f"{name}: why {name}")


def found(old, new, **settings):
    """The exit status, and verdict and reason of cell n=2 of six: None if it has none."""
    outcome = judged(old, new, **settings)
    cells = [cell for cell in outcome.cells if cell.key[-1] == "n=2"]
    assert len(cells) <= 1
    return (outcome.code, *((cells[0].verdict, cells[0].reason) if cells else (None, None)))


@pytest.mark.parametrize("fault", ["wrong", "oom", "error"])
@pytest.mark.parametrize(
    "old",
    [
        spoiled(WITH, "unstable"),
        spoiled(WITH, "unsupported"),
        spoiled(WITH, "fallback"),
        spoiled(WITH, "ok", "wrong"),
        spoiled(WITH, "unstable", "oom"),
        spoiled(WITH, "error", "ok"),
        WITH,
        WITHOUT,
    ],
)
def test_a_fault_that_the_baseline_has_not_throughout_has_errored(fault, old):
    assert found(old, spoiled(NEW_WITH, fault)) == (1, "errored", status(fault))


def test_the_worst_of_several_faults_is_the_reason():
    new = spoiled(NEW_WITH, "unstable", "wrong", "oom", "error", "unstable")
    assert found(WITH, new) == (1, "errored", status("wrong"))
    assert found(spoiled(WITH, "wrong"), new) == (1, "errored", status("error"))


@pytest.mark.parametrize("fault", ["wrong", "fallback", "oom", "error"])
def test_a_fault_that_the_baseline_has_throughout_is_not_the_candidate_s(fault):
    old = spoiled(WITH, fault)
    both = found(old, spoiled(NEW_WITH, fault))
    assert both == (0, "inconclusive", status(fault, "status of both"))
    assert found(old, NEW_WITH) == (0, "inconclusive", status(fault, "status of baseline"))
    assert found(old, NEW_WITHOUT)[:2] == (4, "missing")


def test_what_the_backend_refuses_on_both_sides_is_the_same():
    old = spoiled(WITH, "unsupported")
    both = found(old, spoiled(NEW_WITH, "unsupported"))
    assert both == (0, "same", status("unsupported", "status of both"))
    there = found(old, NEW_WITH)
    assert there == (0, "inconclusive", status("unsupported", "status of baseline"))
    gone = found(old, NEW_WITHOUT)
    assert gone == (0, "inconclusive", status("unsupported", "gone and refused"))
    assert found(WITH, spoiled(NEW_WITH, "unsupported"))[:2] == (1, "errored")


def test_a_cell_is_new_where_the_baseline_has_no_row_of_it():
    assert found(WITHOUT, NEW_WITH) == (0, "new", None)
    for name in ("unsupported", "fallback", "unstable"):
        assert found(WITHOUT, spoiled(NEW_WITH, name)) == (0, "new", status(name))
        assert found(WITHOUT, spoiled(NEW_WITH, "ok", name)) == (0, "new", None)


def test_a_cell_without_a_stable_time_is_inconclusive_and_missing_only_where_it_is_gone():
    old = spoiled(WITH, "unstable")
    there = found(old, NEW_WITH)
    assert there == (0, "inconclusive", status("unstable", "status of baseline"))
    both = found(old, spoiled(NEW_WITH, "unstable"))
    assert both == (0, "inconclusive", status("unstable", "status of both"))
    now = found(WITH, spoiled(NEW_WITH, "unstable"))
    assert now == (0, "inconclusive", status("unstable"))
    assert found(old, NEW_WITHOUT)[:2] == (4, "missing")


def test_every_cell_of_either_side_has_one_verdict():
    both = [[], []]
    for number, statuses in enumerate(product((*schema.STATUSES, None), repeat=2)):
        for rows, status in zip(both, statuses, strict=True):
            cell = {"params": f"n={number}", "status": status, "min_s": 1e-3}
            rows += [cell | {"run_id": f"{run}"} for run in range(3) if status]
    keys = [cell.key[-1] for cell in judged(*both).cells]
    assert sorted(keys) == sorted({each["params"] for each in both[0] + both[1]})
    assert len(keys) == 8 * 8 - 1


def suspected(old, new):
    keys = screen.suspects(frame(*old), frame(*new), Limits(), one_machine=True)
    return "n=2" in {key[-1] for key in keys}


def test_cells_unstable_on_either_side_are_looked_at_again():
    """What is known already, or cannot be timed on a side, is not."""
    unstable = spoiled(WITH, "unstable"), spoiled(NEW_WITH, "unstable")
    assert suspected(WITH, unstable[1])
    assert suspected(unstable[0], NEW_WITH)
    assert suspected(*unstable)
    assert suspected(spoiled(WITH, "ok", "unstable"), NEW_WITH)
    assert not suspected(spoiled(WITH, "unstable", "ok"), NEW_WITH)
    assert not suspected(unstable[0], spoiled(NEW_WITH, "wrong", "unstable"))
    assert not suspected(unstable[0], spoiled(NEW_WITH, "wrong"))
    assert not suspected(spoiled(WITH, "oom"), unstable[1])
    assert not suspected(WITHOUT, spoiled(NEW_WITH, "ok", "unstable"))
    assert not suspected(spoiled(WITH, "unstable"), NEW_WITHOUT)


def test_a_flaw_of_the_first_look_is_not_confirmed_away():
    """A cell that is slower and was wrong in one run of the screen."""
    new = spoiled(runs(seed=2, cells=6, slow={2: 2.0}), "wrong", "ok")
    assert not suspected(WITH, new)
    screened = judged(WITH, new)
    settled = screen.settle(screened, judged(WITH, NEW_WITH), set())
    assert (settled.code, verdicts(settled, "errored")) == (1, ["n=2"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (spoiled(WITH, "unstable"), NEW_WITH),
        (spoiled(WITH, "unstable"), spoiled(NEW_WITH, "unstable")),
        (spoiled(WITH, "wrong"), NEW_WITH),
        (WITH, spoiled(NEW_WITH, "unstable")),
    ],
)
def test_a_cell_without_times_on_both_sides_is_never_cleared(old, new):
    settled = screen.settle(judged(old, new), None, set())
    assert "n=2" in verdicts(settled, "inconclusive")


def test_cells_of_a_single_run_a_side_are_cleared_by_a_screen():
    screened = judged(runs(1, seed=1, cells=6), runs(1, seed=2, cells=6))
    assert screened.count("inconclusive") == 6
    assert screen.settle(screened, None, set()).count("same") == 6


def test_cells_that_a_side_lacks_are_not_in_the_judged_ones():
    few, many = {key: [-9.0, -9.1, -9.2] for key in KEYS[:1]}, {k: [-9.0] * 3 for k in KEYS}
    cells, _, _ = check.judge(many, few, Limits())
    assert [cell.key for cell in cells] == KEYS[:1]
