"""How to load data, and whether loading is the bottleneck."""

import pytest

from tests.helpers.truths import Machine, factor, findings, one

STEP = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}


LOADER = {"family": "loading", "benchmark": "loader", "items": 256, "item_unit": "image"}


FASHION = {"family": "loading", "benchmark": "fashion_mnist", "params": "target=index"}


FASHION |= {"items": 1000, "item_unit": "image"}


def loaders(times, **machine):
    """A machine whose epochs take these seconds, by batch and workers."""
    made = Machine(**machine)
    for (batch, workers), seconds in times.items():
        made.cell(seconds, params=f"batch={batch};workers={workers}", **LOADER)
    return made


def setting(subject):
    return int(subject.params["batch"]), int(subject.params["workers"])


def test_the_fastest_setting_of_the_loader_is_found():
    best = one(loaders({(64, 0): 0.2, (64, 1): 0.19, (64, 2): 0.1}), "loading")
    assert (setting(best.subject), setting(best.rival), best.advice) == ((64, 2), (64, 0), "best")
    assert best.amount == pytest.approx(2560, rel=0.02)
    assert best.ratio.value == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize(("step_s", "advice"), [(1e-3, "loading"), (1.0, "keeps up")])
def test_reading_that_does_not_keep_up_is_the_bottleneck(step_s, advice):
    """The images of the step, not those that the loader decodes."""
    machine = loaders({(64, 2): 1e-6}).cell(0.1, **FASHION).cell(step_s, **STEP)
    made = one(machine, "bottleneck")
    assert (made.advice, made.effect > 1) == (advice, advice == "loading")
    assert made.amount == pytest.approx(10_000, rel=0.02)
    assert made.rival_amount == pytest.approx(64 / step_s, rel=0.02)
    machine.cell(1e-9, **STEP, dtype="float16", status="unstable", ci_low_s=1e-9, ci_high_s=1)
    assert one(machine, "bottleneck").advice == ("loading" if advice == "loading" else "unclear")


def test_the_step_of_the_bottleneck_is_the_fastest_of_the_nearest_batch():
    machine = Machine(runs=1).cell(0.1, **FASHION)
    machine.cell(1e-9, **STEP | {"params": "batch=4096"}).cell(1e-3, **STEP)
    machine.cell(2e-3, **STEP, dtype="float16")
    made = one(machine, "bottleneck")
    assert (made.rival.dtype, made.rival.params) == ("float32", {"batch": "64"})
    assert findings(Machine().cell(0.1, **FASHION), "bottleneck") == []


def test_workers_that_cost_are_found():
    made = one(loaders({(64, 0): 0.1, (64, 1): 0.3, (64, 2): 0.18}), "loading")
    assert (setting(made.subject), setting(made.rival)) == ((64, 0), (64, 2))
    assert factor(made.ratio) == pytest.approx(1.8, rel=0.03)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_difference_is_one_only_if_it_was_looked_for(workers):
    times = {(64, workers): 0.1, (64, 2 - workers): 0.101}
    made = one(loaders(times, noise=0.002), "loading")
    assert (made.advice, made.ratio) == ("among the best", None)
    assert [setting(made.subject), setting(made.rival)] == [(64, 0), (64, 2)]
    machine = loaders({(64, workers): 0.1})
    machine.fault("unstable", "two levels", params=f"batch=64;workers={2 - workers}", **LOADER)
    made = one(machine, "loading")
    assert (made.advice, made.rival, made.total) == ("best settled", None, 2)
    assert made.unmeasured == {f"workers={2 - workers} batch=64": "unstable"}


def test_settings_as_good_as_the_best_are_named():
    times = {(64, 0): 0.3, (128, 2): 0.1, (128, 4): 0.101, (64, 2): 0.102, (8, 2): 0.2}
    made = one(loaders(times), "loading")
    assert (made.advice, setting(made.subject)) == ("among the best", (128, 2))
    assert factor(made.ratio) == pytest.approx(3, rel=0.05)
    assert [*map(setting, made.alike)] == [(128, 4), (64, 2)]


def test_a_lucky_run_makes_no_best_setting():
    machine = loaders({(64, 1): 0.1, (64, 2): 0.2}, noise=0)
    machine.rows[-1]["median_s"] = 0.05
    assert setting(one(machine, "loading").subject) == (64, 1)


def test_reading_about_as_fast_as_training_is_no_bottleneck():
    made = one(Machine().cell(0.1, **FASHION).cell(64 / 10_500, **STEP), "bottleneck")
    assert (made.advice, made.ratio) == ("unclear", None)
