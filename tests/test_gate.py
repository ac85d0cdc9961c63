"""The gate fails on a real slowdown, and on nothing else."""

import random

import pytest

from bench.compare import observations
from bench.gate import check, settings
from bench.gate.reason import reason
from bench.gate.settings import Limits
from bench.report import gate_outcome
from bench.stats import multiplicity
from tests.helpers.frames import frame
from tests.helpers.gates import (
    CELLS,
    KEYS,
    judged,
    runs,
    spoiled,
    verdicts,
)


@pytest.mark.integration
def test_unchanged_code_passes_in_nearly_every_suite():
    """Of 60 suites of 40 unchanged cells, a false alarm in two at most."""
    alarms = 0
    for seed in range(60):
        outcome = judged(runs(seed=2 * seed), runs(seed=2 * seed + 1))
        alarms += outcome.code == 1
        assert outcome.code in (0, 1)
    assert alarms <= 2


@pytest.mark.integration
@pytest.mark.parametrize(("factor", "share"), [(1.10, 0.85), (1.20, 0.98)])
def test_a_real_slowdown_is_found_and_alone_named(factor, share):
    found = 0
    for seed in range(50):
        outcome = judged(runs(seed=2 * seed), runs(seed=2 * seed + 1, slow={7: factor}))
        named = verdicts(outcome, "regressed")
        found += named == ["n=7"]
    assert found >= share * 50


def test_an_improvement_fails_only_if_asked_to():
    old, new = runs(seed=1), runs(seed=2, slow={3: 0.7})
    assert verdicts(judged(old, new), "improved") == ["n=3"]
    assert judged(old, new).code == 0
    assert judged(old, new, fail_on_improvement=True).code == 1


def test_a_shift_of_the_whole_machine_is_taken_out():
    old, new = runs(seed=1), runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.04))
    outcome = judged(old, new)
    assert outcome.code == 0
    assert outcome.shifts["cpu", "float32"].value == pytest.approx(0.039, abs=0.01)


def slower(share, by=1.08):
    """Two sides, of whose cells a share is slower."""
    return runs(seed=1), runs(seed=2, slow=dict.fromkeys(range(int(share * CELLS)), by))


def with_kernel(rows, seconds=8e-6):
    return [each | {"core_s": seconds} for each in rows]


@pytest.mark.parametrize("share", [0.75, 1.0])
def test_a_slowdown_of_everything_that_the_reference_kernels_do_not_share_fails(share):
    outcome = judged(*map(with_kernel, slower(share)))
    assert outcome.code == 1
    assert outcome.notes[0].code == "everything"
    assert outcome.notes[0].figures["change"] == pytest.approx(0.08, abs=0.015)
    assert outcome.count("regressed") >= 0.9 * share * CELLS
    assert outcome.count("improved") == 0


def test_a_slowdown_that_the_reference_kernels_share_is_the_machine_s():
    old, new = slower(1.0, 1.3)
    outcome = judged(with_kernel(old), with_kernel(new, 1.3 * 8e-6))
    assert (outcome.code, outcome.count("regressed")) == (0, 0)
    assert outcome.shifts["cpu", "float32"].measured
    # Another Python hashes at another speed.
    other = [each | {"python": "3.13.0"} for each in with_kernel(new, 1.3 * 8e-6)]
    assert judged(with_kernel(old), other).code == 3


def test_cells_that_stand_still_have_not_improved_against_a_shift():
    old, new = slower(0.75, 1.045)
    outcome = judged(old, new, limits=Limits(threshold=0.03, margin=0.01))
    assert outcome.shifts["cpu", "float32"].value > 0.03
    assert outcome.count("improved") == 0


def two_states(rows, seed, cells=14, high=1.15):
    """The same rows; each run finds one of two states in each of some cells."""
    source = random.Random(seed)
    return [
        each | {"min_s": each["min_s"] * (high if source.random() < 0.5 else 1)}
        if int(each["params"][2:]) < cells
        else each
        for each in rows
    ]


@pytest.mark.integration
@pytest.mark.parametrize(("count", "most"), [(3, 1), (5, 2), (10, 1)])
def test_processes_in_two_states_are_no_regression(count, most):
    """Of 20 suites, in a third of whose cells each process finds one of two states."""
    alarms = 0
    for seed in range(20):
        sides = (two_states(runs(count, seed=2 * seed + n, noise=0.01), seed + n) for n in (0, 1))
        alarms += judged(*sides, one_machine=True).code == 1
    assert alarms <= most


def test_what_two_states_may_explain_is_inconclusive_and_more_runs_are_asked_for():
    whys = []
    for seed in range(8):
        sides = (two_states(runs(3, seed=2 * seed + n, noise=0.001), seed + n) for n in (0, 1))
        outcome = judged(*sides, one_machine=True)
        explained = [c for c in outcome.cells if c.verdict == "inconclusive"]
        slower = sum(c.reason.code != "undecided" and c.change > 0 for c in explained)
        doubt = f"fine, but {slower} cell{'s' if slower > 1 else ''} may be slower: "
        assert gate_outcome.headline(outcome).startswith(doubt if slower else "fine: ")
        whys += [c.reason for c in explained]
    (why, *_) = [why for why in whys if why.code == "states of others"]
    assert 3 <= why.figures["cells"] <= 14
    assert why.figures["runs"] >= 4


def test_a_change_below_the_floor_has_a_word_of_its_own():
    old, new = runs(seed=1, noise=0.005), runs(seed=2, noise=0.005, slow={0: 1.2})
    outcome = judged(old, new, limits=Limits(floor_s=1e-3))
    assert verdicts(outcome, "negligible") == ["n=0"]
    (cell,) = [c for c in outcome.cells if c.verdict == "negligible"]
    assert cell.reason == reason("floor", change=cell.high, floor_s=1e-3)
    assert outcome.code == 0


@pytest.mark.integration
def test_sides_of_unequal_noise_and_number_are_no_regression():
    """Of 20 suites with 20 quiet runs of the baseline and 3 noisy ones of the candidate."""
    suites = [
        judged(runs(20, seed=n, noise=0.01), runs(3, seed=100 + n, noise=0.03)) for n in range(20)
    ]
    assert sum(outcome.code == 1 for outcome in suites) <= 1


def test_a_shift_too_large_is_incomparable():
    outcome = judged(runs(seed=1), runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.3)))
    assert outcome.code == 3
    assert outcome.count("incomparable") == CELLS
    assert ("moved", "cpu") in [(code, one.get("device")) for code, one in outcome.notes]


def test_missing_new_errored_and_unstable_cells_have_their_verdicts():
    old = runs(seed=1, cells=6)
    new = [r for r in runs(seed=2, cells=7) if r["params"] != "n=0"]
    for r in new:
        if r["params"] == "n=1":
            r |= {"status": "wrong", "reason": "off by 0.3"}
        if r["params"] == "n=2":
            r |= {"status": "unstable", "reason": "a neighbour"}
    outcome = judged(old, new)
    assert outcome.code == 1
    assert verdicts(outcome, "missing") == ["n=0"]
    assert verdicts(outcome, "errored") == ["n=1"]
    assert verdicts(outcome, "new") == ["n=6"]
    (unstable,) = [c for c in outcome.cells if c.key[-1] == "n=2"]
    assert (unstable.verdict, unstable.reason) == (
        "inconclusive",
        reason("status", seen="unstable: a neighbour"),
    )
    missing = [r for r in runs(seed=2, cells=6) if r["params"] != "n=0"]
    assert judged(old, missing).code == 4
    assert judged(old, missing, allow_missing=True).code == 0


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_runs_only_advise(count):
    outcome = judged(runs(count, seed=1), runs(count, seed=2, slow={7: 3.0}))
    assert outcome.code == 0
    few = {"baseline": count, "candidate": count, "fewest": 3}
    assert outcome.notes == [reason("few runs", **few)]


@pytest.mark.parametrize("column", ["cpu", "device_name", "threads", "suite_version"])
def test_another_environment_is_incomparable_unless_it_may_vary(column):
    value = 8 if column == "threads" else "another"
    old, new = runs(seed=1), runs(seed=2, **{column: value})
    outcome = judged(old, new)
    assert outcome.code == 3
    assert ("differs", column) in [(code, one.get("column")) for code, one in outcome.notes]
    headline, _, rest = gate_outcome.text(outcome).partition("\n")
    assert f"{CELLS} incomparable" in headline
    assert f"{column}: " in rest
    assert "incomparable" not in rest  # it says why, not which: all of them
    assert "\n\n" not in rest
    assert judged(old, new, vary=[column]).code == 0


def test_a_device_that_one_side_has_alone_is_missing_or_new():
    """Its name makes the cells of the other devices no less comparable."""
    old = runs(seed=1)
    new = [*runs(seed=2), *runs(seed=2, device="mps", device_name="M1", driver="15.1")]
    assert judged(old, new).code == 0
    assert judged(new, old).code == 4
    assert judged(new, old, allow_missing=True).code == 0


def test_times_of_a_single_call_are_noted():
    """A first call can take five times as long as those that follow."""
    old, new = runs(seed=1, rounds=1, iterations=1), runs(seed=2, rounds=20, iterations=1)
    assert judged(old, new).notes == [reason("single calls", cells=CELLS)]
    assert judged(new, new).notes == []


def test_another_torch_is_noted_and_judged():
    outcome = judged(runs(seed=1), runs(seed=2, torch="2.12.0"))
    assert outcome.code == 0
    sides = {"baseline": ("2.11.0",), "candidate": ("2.12.0",)}
    assert outcome.notes == [reason("differs", column="torch", **sides)]


def test_noise_that_hides_a_change_is_inconclusive_with_the_runs_that_would_decide():
    outcome = judged(runs(3, seed=1, noise=0.1), runs(3, seed=2, noise=0.1))
    cell = next(c for c in outcome.cells if c.verdict == "inconclusive")
    assert (cell.reason.code, cell.reason.figures["change"]) == ("undecided", cell.high)
    assert cell.reason.figures["runs"] > 3
    assert outcome.code == 0


def test_a_change_below_the_floor_or_its_own_threshold_passes():
    old, new = runs(seed=1, noise=0.001), runs(seed=2, noise=0.001, slow={0: 1.5})
    assert judged(old, new).code == 1
    assert judged(old, new, limits=Limits(floor_s=1e-3)).code == 0
    assert judged(old, new, limits=Limits(thresholds={"cat": 0.6})).code == 0
    assert judged(old, new, limits=Limits(thresholds={"tensors": 0.6})).code == 0


def test_the_minimum_is_judged_on_the_cpu_and_the_median_elsewhere():
    def on(device):
        old, new = runs(seed=1, device=device), runs(seed=1, device=device)
        for r in new:
            r["run_id"] += "x"
            if r["params"] == "n=3":
                r["median_s"] *= 2
        return judged(old, new).code

    assert on("cpu") == 0
    assert on("cuda") == 1


def test_holm_is_that_of_the_literature():
    assert multiplicity.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert multiplicity.holm([]).tolist() == []


def test_runs_without_any_noise_are_judged_too():
    old, new = runs(seed=1, noise=0.0), runs(seed=2, noise=0.0, slow={2: 1.2})
    assert verdicts(judged(old, new), "regressed") == ["n=2"]


def test_a_cell_that_a_run_lacks_is_judged_by_the_others():
    new = runs(seed=2, noise=0.005, slow={7: 1.2})
    new = [r for r in new if (r["params"], r["run_id"]) != ("n=7", "2-3")]
    assert verdicts(judged(runs(seed=1, noise=0.005), new), "regressed") == ["n=7"]


def test_times_that_a_coarse_clock_ties_are_judged():
    """Every time is a multiple of 2 %, and most runs of a cell agree."""
    old, new = runs(seed=1, noise=0.004), runs(seed=2, noise=0.004, slow={7: 1.2})
    for each in (*old, *new):
        unit = 2e-6 * (1 + int(each["params"][2:]))
        each["min_s"] = round(each["min_s"] / unit) * unit
    assert verdicts(judged(old, new), "regressed") == ["n=7"]
    assert judged(old, old).code == 0


def test_a_flaw_in_one_run_of_many_is_no_less_a_flaw():
    old, new = runs(seed=1, cells=6), runs(seed=2, cells=6)
    flawed = next(r for r in new if r["params"] == "n=2")
    flawed |= {"status": "wrong", "reason": "off by 0.3"}
    outcome = judged(old, new)
    assert outcome.code == 1
    assert verdicts(outcome, "errored") == ["n=2"]
    known = next(r for r in old if r["params"] == "n=2")
    known |= {"status": "wrong", "reason": "off by 0.3"}
    assert judged(old, new).code == 1
    assert judged(spoiled(old, "wrong"), new).code == 0


def test_a_machine_that_moves_as_a_whole_is_judged_where_its_sides_alternate():
    new = runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.3))
    assert judged(runs(seed=1), new, one_machine=True).count("regressed") == CELLS


@pytest.mark.parametrize(
    ("runs", "noise", "apart", "found"),
    [
        ((5, 5), 0.006, False, True),
        ((4, 5), 0.006, False, False),
        ((20, 4), 0.006, False, False),
        ((20, 20), 0.006, True, False),
        ((5, 5), 0.03, False, False),
    ],
)
def test_five_runs_per_side_in_one_session_lower_the_threshold(runs, noise, apart, found):
    """A cell 4 % slower is below the threshold of 5 %, and above that of a cell of known noise."""
    source = random.Random(3)

    def times(count, slower=0.0):
        return {
            key: [-9 + source.gauss(0, noise) + slower * (key == KEYS[0]) for _ in range(count)]
            for key in KEYS
        }

    cells, _, _ = check.judge(times(runs[0]), times(runs[1], 0.04), Limits(), sessions=apart)
    assert [c.key for c in cells if c.verdict == "regressed"] == KEYS[:1] * found


def of_sessions(sessions, slower=0.0, spread=0.004, seed=7):
    """Baseline runs in so many sessions, and a candidate of another one; its n=0 may be slower.

    The cells of odd numbers differ ten times as much between sessions as the others.
    """
    source, sides = random.Random(seed), []
    for session in range(sessions + 1):
        off = {n: source.gauss(0, spread * (10 if n % 2 else 1)) for n in range(CELLS)}
        start = f"2026-01-{1 + session:02}T00:00:00Z"
        factors = {
            n: 2.718281828 ** (y + slower * (session == sessions) * (n == 0))
            for n, y in off.items()
        }
        rows = runs(5, factors, noise=0.002, seed=100 * seed + session, run_started=start)
        sides.append(rows)
    return [row for rows in sides[:-1] for row in rows], sides[-1]


def test_several_sessions_show_which_cells_differ_between_them():
    """A cell that hardly differs is found at 6 %, and one that differs by 4 % is no regression."""
    assert verdicts(judged(*of_sessions(6, 0.06)), "regressed") == ["n=0"]
    assert judged(*of_sessions(6)).code == 0
    old, new = of_sessions(2, 0.06)
    assert "n=0" not in verdicts(judged(old, new), "regressed")


def test_a_cell_of_few_sessions_gets_the_noise_of_the_others():
    old, new = of_sessions(6, 0.06)
    old = [r for r in old if r["params"] != "n=1" or r["run_started"] > "2026-01-05"]
    outcome = judged(old, new)
    assert len(outcome.cells) == CELLS
    assert verdicts(outcome, "regressed") == ["n=0"]


def test_few_or_noisy_runs_after_several_sessions_are_no_regression():
    """The candidate has two runs less than a session of the baseline, and five times its noise."""
    old, _ = of_sessions(6)
    for seed in range(5):
        new = runs(3, noise=0.02, seed=seed, run_started="2026-02-01T00:00:00Z")
        assert judged(old, new).code == 0


def test_limits_that_were_given_hold_for_cells_of_known_noise_too(tmp_path):
    given = settings.limits(threshold=10, margin=4, path=tmp_path / "none.toml")
    assert given.of(KEYS[0]) == given.of(KEYS[0], known=True) == (0.1, 0.04)
    unset = settings.limits(path=tmp_path / "none.toml")
    assert (unset.of(KEYS[0]), unset.of(KEYS[0], known=True)) == ((0.05, 0.02), (0.03, 0.01))
    assert Limits(thresholds={"cat": 0.6}).of(KEYS[0], known=True)[0] == 0.6


def test_a_nan_and_a_zero_time_are_no_time():
    """A time that is not a number, or that no clock can resolve, counts as none."""
    rows = frame(*runs(count=5))
    for value in (float("nan"), 0.0):
        broken = rows.copy()
        first = broken.index[broken.params == broken.params.iloc[0]][0]
        broken.loc[first, ["min_s", "median_s"]] = value
        whole, found = observations.times(rows), observations.times(broken)
        assert sum(map(len, found.values())) == sum(map(len, whole.values())) - 1
