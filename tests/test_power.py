"""How good a rule is, on runs whose truth is known."""

import math
import random

import pytest

from bench.gate import power
from bench.records.schema import CellKey
from tests.validation import gates, model, rules, situations
from tests.validation.collection import Sample

KEYS = [CellKey("", "op", "cpu", "float32", f"n={n}") for n in range(20)]


def runs(count=40, noise=0.02, seed=1):
    """Runs whose cells have independent noise and no rounds but three."""
    source = random.Random(seed)

    def sample():
        seconds = 1e-4 * source.lognormvariate(0, noise)
        return Sample(seconds, seconds, (seconds,) * 10)

    return {key: [sample() for _ in range(count)] for key in KEYS}


def names_all(base, new):
    return set(new)


def names_none(base, new):
    return set()


def knows(base, new):
    """Compares with the truth that the test knows: times within 15 % of 1e-4 are unchanged."""
    return {key for key, samples in new.items() if samples[0].median_s > 1.15e-4}


@pytest.mark.parametrize(
    ("rule", "alarms", "found"), [(names_all, 30, 30), (names_none, 0, 0), (knows, 0, 30)]
)
def test_alarms_and_finds_are_counted(rule, alarms, found):
    seen = power.examine(runs(noise=0.01), rule, rules.slower, 5, 30)
    assert (seen.suites, seen.alarms, seen.found[1.20]) == (30, alarms, found)
    assert seen.found[1.05] == (30 if rule is names_all else 0)
    assert seen.exact[1.20] == (found if rule is knows else 0)


def test_sides_follow_each_other_where_they_do_not_alternate():
    times = {KEYS[0]: [float(n) for n in range(12)]}
    seen = []

    def watch(base, new):
        seen.append((base[KEYS[0]], new[KEYS[0]]))
        return set()

    power.examine(times, watch, lambda y, factor: y, 3, 20, alternating=False)
    for base, new in seen:
        whole = [*base, *new]
        assert whole == [whole[0] + n for n in range(6)]


def test_too_few_runs_are_refused():
    with pytest.raises(ValueError, match="6 runs are too few for 5 a side"):
        power.of_gate({KEYS[0]: [0.0] * 6}, 5)


def test_cells_that_were_not_timed_in_a_run_are_left_out():
    times = {key: [math.log(1e-4)] * 10 for key in KEYS} | {KEYS[0]: [None] * 10}
    seen = power.of_gate(times, 5, suites=20, slowed=KEYS[1:])
    assert (seen.alarms, seen.found[1.20]) == (0, 20)
    assert power.of_gate(times, 5, suites=5, slowed=KEYS[:1]).found[1.20] == 0
    assert seen.honest
    assert seen.sharp


@pytest.mark.integration
def test_the_gate_keeps_its_promise_where_its_peers_do_not():
    """A small form of the tables in docs/gate.md, on the model with noise as it was measured."""
    noise = model.Noise((0.01, 0.02, 0.03), 0.01, 0.3, 0.03, 0.15, 0.01, 0.3)
    drawn = model.draw(noise, cells=20, count=40, seed=2)
    alarms, found = {}, {}
    for name, rule in rules.RULES.items():
        seen = power.examine(drawn, rule, rules.slower, 5, 20)
        alarms[name], found[name] = seen.alarms, seen.found[1.20]
    assert alarms["bench check"] <= 1
    assert found["bench check"] >= 16
    assert min(alarms["pyperf"], alarms["benchstat, one process"]) >= 15
    assert alarms["benchstat, a median a process"] >= 3


def test_the_model_has_the_noise_it_was_fitted_to():
    """What was drawn from a model gives the model back, near enough."""
    noise = model.Noise((0.02,), 0.01, 0.0, 0.05, 0.3, 0.02, 0.5)
    found = model.fit(model.draw(noise, cells=40, count=200, seed=3))
    assert sum(found.process) / len(found.process) == pytest.approx(0.02, rel=0.25)
    assert found.common == pytest.approx(0.01, rel=0.4)
    assert found.outliers == pytest.approx(0.05, abs=0.02)
    assert found.outlier == pytest.approx(0.3, rel=0.4)


def test_stable_cells_are_those_that_hardly_move():
    loud = {key: samples for key, samples in runs(noise=0.1).items() if key == KEYS[0]}
    rare = {KEYS[1]: [None if n % 2 else s for n, s in enumerate(runs()[KEYS[1]])]}
    assert gates.stable(runs(noise=0.01) | loud | rare) == KEYS[2:]


@pytest.mark.parametrize("name", rules.RULES)
def test_every_rule_sees_a_doubling_and_not_its_absence(name):
    base = {key: samples[:5] for key, samples in runs(noise=1e-4).items()}
    new = {key: samples[5:10] for key, samples in runs(noise=1e-4).items()}
    doubled = {**new, KEYS[3]: [rules.slower(sample, 2.0) for sample in new[KEYS[3]]]}
    assert KEYS[3] in rules.RULES[name](base, doubled)
    halved = {**new, KEYS[3]: [rules.slower(sample, 0.5) for sample in new[KEYS[3]]]}
    assert KEYS[3] not in rules.RULES[name](base, halved)


@pytest.mark.integration
@pytest.mark.parametrize("one", situations.SITUATIONS, ids=lambda one: one.name)
def test_a_situation_can_be_simulated(one):
    """Whether it holds is what `python -m tests.validation.gates` says, in hundreds of trials."""
    share = one.trial(situations.TUNING)
    assert 0 <= share <= 1
