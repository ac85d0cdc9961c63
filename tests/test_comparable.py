"""What makes two sides incomparable: other or unknown hardware, and cells that moved together."""

import math

import pytest

from bench.gate import comparable
from bench.gate.check import check
from bench.records.schema import CellKey
from bench.report import gate_outcome
from tests.helpers import gates
from tests.helpers.frames import frame


def side(runs=3, **columns):
    return frame(*({"run_id": f"{columns}-{run}", **columns} for run in range(runs)))


def codes(notes):
    return [(note.code, note.figures.get("column")) for note in notes]


@pytest.mark.parametrize(("old", "new"), [("", ""), ("i5", ""), ("", "Xeon")])
def test_unknown_hardware_is_no_agreement(old, new):
    hard, soft = comparable.environment(side(cpu=old), side(cpu=new))
    assert ("unknown hardware", "cpu") in codes(hard)
    hard, soft = comparable.environment(side(cpu=old), side(cpu=new), same_machine=True)
    assert not hard
    assert ("unknown hardware", "cpu") in codes(soft)


def test_known_hardware_that_differs_is_never_the_same_machine():
    hard, _ = comparable.environment(side(cpu="i5"), side(cpu="Xeon"), same_machine=True)
    assert ("differs", "cpu") in codes(hard)


def test_an_accelerator_without_a_name_is_unknown_and_a_cpu_is_not():
    blank = side(device="mps", device_name="")
    assert ("unknown hardware", "device_name") in codes(comparable.environment(blank, blank)[0])
    blank = side(device="cpu", device_name="")
    assert not comparable.environment(blank, blank)[0]


def test_commits_of_another_suite_may_differ():
    old, new = (side(suite_version=f"commit {name}", run_id="imported-1") for name in "ab")
    hard, soft = comparable.environment(old, new)
    assert not hard
    assert ("differs", "suite_version") in codes(soft)
    assert comparable.environment(side(suite_version="1"), side(suite_version="2"))[0]


def test_the_gate_judges_unknown_hardware_only_if_the_user_vouches():
    old, new = side(cpu="", min_s=1e-3), side(cpu="", min_s=1e-3)
    assert check(old, new).code == 3
    assert check(old, new, same_machine=True).code == 0


def keys(count, benchmark="op{}"):
    return [
        CellKey("tensors", benchmark.format(n), "cpu", "float32", f"n={n}") for n in range(count)
    ]


def moved(changes, total=30, benchmark="op{}"):
    cells = keys(total, benchmark)
    slower = list(zip(cells, changes, strict=False))
    return comparable.moved_together(slower, cells)


def test_cells_of_several_benchmarks_that_move_alike_are_one_shift():
    (note,) = moved([0.26, 0.25, 0.255, 0.262])
    assert note.code == "moved together"
    assert (note.figures["cells"], note.figures["total"]) == (4, 30)
    assert math.isclose(note.figures["change"], 0.2575, abs_tol=0.005)


def test_cells_that_become_faster_together_are_a_note_and_fail_only_if_improvements_do():
    faster = dict.fromkeys(range(4), 0.8)
    old, new = (
        [
            row | {"benchmark": f"op{row['params'][2:]}"}
            for row in gates.runs(seed=seed, slow=slow, cells=12, noise=0.002)
        ]
        for seed, slow in ((1, None), (2, faster))
    )
    outcome = gates.judged(old, new)
    assert (outcome.code, outcome.count("improved")) == (0, 4)
    (note,) = (one for one in outcome.notes if one.code == "moved together")
    assert "became 20% faster together" in gate_outcome.words(note)
    assert gates.judged(old, new, fail_on_improvement=True).code == 3


@pytest.mark.parametrize(
    ("changes", "total", "name"),
    [
        ([0.26, 0.25], 12, "op{}"),  # too few
        ([0.1, 0.2, 0.4, 0.8], 12, "op{}"),  # each its own way
        ([0.26, 0.25, 0.255], 100, "op{}"),  # few among many
        ([0.26, 0.25, 0.255, 0.262], 12, "cat"),  # one benchmark: its code has changed
        ([], 12, "op{}"),
    ],
)
def test_other_changes_are_regressions_of_their_own(changes, total, name):
    assert moved(changes, total, name) == []
