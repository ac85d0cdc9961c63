"""The family `training`: its proofs see what they are there to see."""

import pytest
import torch

from bench.measure import answer, devices, rounds
from bench.measure.answer import WrongAnswer
from bench.measure.cell import Cell
from bench.training import bench_epoch, bench_optimizers, bench_step, models


def cell(dtype=torch.float32, plan=None):
    return Cell(devices.find("cpu"), dtype, plan)


def test_the_network_is_that_of_the_tutorial_and_always_the_same():
    model = models.network(cell())
    assert sum(p.numel() for p in model.parameters()) == models.PARAMETERS == 669_706
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    again = models.network(cell())
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    # 784*512 + 512*512 + 512*10 multiplications, and as many additions.
    assert models.FORWARD_FLOP == 2 * (784 * 512 + 512 * 512 + 512 * 10)


def test_a_module_is_compared_by_its_parameters():
    one, other = models.network(cell()), models.network(cell())
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1
    assert answer.compare(one, models.network(cell()), torch.float32).fault == ""
    assert "off by" in answer.compare(one, other, torch.float32).fault


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("optimizer", list(bench_optimizers.OPTIMIZERS))
def test_each_optimizer_step_is_right(optimizer, dtype):
    on = cell(dtype)
    model = models.with_gradients(on, models.network(on))
    made = bench_optimizers.make(optimizer, "foreach", model)
    proof = bench_optimizers.every_parameter_moved(model)
    on(bench_optimizers.step, made, model, terms=4, proof=proof)
    assert on.result.answer.rel_error <= on.result.answer.tolerance


@pytest.mark.parametrize(
    ("fault", "said"), [(1.0, "parameter 2 did not move"), (float("inf"), "2 is not finite")]
)
def test_a_parameter_that_stays_or_leaves_the_numbers_is_seen(fault, said):
    model = models.network(cell())
    proof = bench_optimizers.every_parameter_moved(model)
    with torch.no_grad():
        for place, parameter in enumerate(model.parameters()):
            parameter.mul_(fault if place == 2 else 1.5)
    with pytest.raises(WrongAnswer, match=said):
        proof(model)


def test_a_step_of_the_wrong_size_is_seen():
    def half_a_step(optimizer, model):
        if next(model.parameters()).dtype == torch.float32:
            optimizer.param_groups[0]["lr"] /= 2
        optimizer.step()
        return model

    on = cell()
    model = models.with_gradients(on, models.network(on))
    made = bench_optimizers.make("sgd", "single_tensor", model)
    with pytest.raises(WrongAnswer, match="off by"):
        on(half_a_step, made, model, terms=4)


def test_rmsprop_has_no_fused_implementation():
    with pytest.raises(NotImplementedError, match="RMSprop has no fused"):
        bench_optimizers.make("rmsprop", "fused", models.network(cell()))


@pytest.mark.parametrize(("rate", "falls"), [(1e-2, True), (0.0, False), (1e6, False)])
def test_an_epoch_must_lower_the_loss(monkeypatch, rate, falls):
    sgd = torch.optim.SGD
    monkeypatch.setattr(torch.optim, "SGD", lambda p, lr: sgd(p, rate))
    on = cell()
    if falls:
        bench_epoch.bench_epoch(on, 64)
    else:
        with pytest.raises(WrongAnswer, match=r"the loss went from 2\.2.. to (2|nan)"):
            bench_epoch.bench_epoch(on, 64)
    assert on.result.notes == ["made-up images of FashionMNIST's format"]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_parts_that_do_not_add_up_to_the_whole_are_told(monkeypatch, factor):
    whole = 0.008
    each = factor * whole / len(bench_step.PARTS)
    monkeypatch.setattr(rounds, "measure", lambda *_, **__: rounds.Timing((whole,) * 8, 1))
    on = cell(plan=rounds.Plan(8, 0.1, 0.001))
    parts = dict.fromkeys(bench_step.PARTS, each)
    monkeypatch.setattr(bench_step, "_timed", {(on.device, on.dtype): parts})
    bench_step.bench_step_part(on, "whole")
    said = " ".join(on.result.notes)
    assert ("add up to" in said) == (factor != 1)
    if factor != 1:
        assert f"{factor:.2f} of the whole" in said


def test_every_part_of_a_step_runs():
    on = cell()
    for part in bench_step.step_parts(on).values():
        part()
        part()


def test_gradients_of_the_whole_step_are_those_of_float64():
    on = cell(torch.bfloat16)
    bench_step.bench_step(on, 16)
    bench_step.bench_autocast_step(on, 16)
    assert on.result.answer.rel_error <= on.result.answer.tolerance
