"""The family `training`: its proofs see what they are there to see."""

import functools
import os
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.measure import answer, arguments, devices, rounds
from bench.measure.answer import WrongAnswer
from bench.measure.cell import Cell
from bench.measure.disturbance import Visit
from bench.suite.training import (
    bench_autograd,
    bench_epoch,
    bench_layers,
    bench_loss,
    bench_optimizers,
    bench_step,
    compiler,
    expected,
    models,
)
from tests.validation import answers


def cell(dtype=torch.float32, plan=None, hand_over=None):
    return Cell(devices.find("cpu"), dtype, plan, hand_over=hand_over)


def test_the_network_is_that_of_the_tutorial_and_always_the_same():
    model = models.network(cell())
    assert sum(p.numel() for p in model.parameters()) == models.PARAMETERS == 669_706
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    again = models.network(cell())
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    # 784*512 + 512*512 + 512*10 multiplications, and as many additions.
    assert models.FORWARD_FLOP == 2 * (784 * 512 + 512 * 512 + 512 * 10)


TRAIN, FROZEN = "trained", "frozen_but_last"


@pytest.mark.parametrize(
    ("body", "params", "of_a_sample"),
    [
        (bench_autograd.bench_forward, {}, 1_337_344),
        *(
            (bench_autograd.bench_forward_mode, {"mode": m}, 1_337_344)
            for m in bench_autograd.MODES
        ),
        (bench_autograd.bench_backward, {}, 1_871_872),
        (bench_autograd.bench_forward_backward, {"parameters": TRAIN}, 3_209_216),
        (bench_autograd.bench_forward_backward, {"parameters": FROZEN}, 1_347_584),
        (bench_autograd.bench_second_backward, {}, 5_081_088),
        (bench_step.bench_step, {}, 3_209_216),
        (bench_step.bench_autocast_step, {}, 3_209_216),
        (bench_epoch.bench_epoch, {}, 3_209_216),
        (bench_layers.bench_linear, {"form": "module"}, 524_288),
    ],
)
def test_the_declared_operations_are_those_that_pytorch_counts(body, params, of_a_sample):
    counted = []

    def count(_, call):
        with FlopCounterMode(display=False) as counter:
            call()
        counted.append(counter.get_total_flops())

    mixed = body is bench_step.bench_autocast_step
    on = cell(torch.bfloat16 if mixed else torch.float32, hand_over=count)
    batch = {} if body is bench_layers.bench_linear else {"batch": 64}
    body(on, **batch, **params)
    assert counted == [on.result.flop] == [on.result.items * of_a_sample]


PARAMETERS, IMAGES, LABELS = 669_706, 64 * 784, 64 * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("body", "params", "numbers", "labels"),
    [
        (bench_autograd.bench_forward, {}, PARAMETERS + IMAGES + 64 * 10, 0),
        (
            bench_autograd.bench_backward,
            {},
            512 * 512 + 512 * 10 + IMAGES + 64 * (512 + 512 + 10) + PARAMETERS,
            LABELS,
        ),
        (
            bench_autograd.bench_forward_backward,
            {"parameters": TRAIN},
            2 * PARAMETERS + IMAGES,
            LABELS,
        ),
        (
            bench_autograd.bench_forward_backward,
            {"parameters": FROZEN},
            PARAMETERS + 512 * 10 + 10 + IMAGES,
            LABELS,
        ),
        (bench_autograd.bench_second_backward, {}, 2 * PARAMETERS + IMAGES, LABELS),
        (bench_step.bench_step, {}, 3 * PARAMETERS + IMAGES, LABELS),
        (bench_loss.bench_cross_entropy, {"target": "index"}, 64 * 10 + 1, LABELS),
        (bench_loss.bench_cross_entropy, {"target": "one_hot"}, 64 * 20 + 1, 0),
    ],
)
def test_the_declared_bytes_are_what_goes_in_and_comes_out(body, params, numbers, labels, dtype):
    on = cell(dtype)
    body(on, batch=64, **params)
    assert on.result.bytes == numbers * dtype.itemsize + labels


def test_a_step_in_mixed_precision_keeps_its_parameters_and_images_in_float32():
    mixed, single = cell(torch.bfloat16), cell(torch.float32)
    bench_step.bench_autocast_step(mixed, 64)
    bench_step.bench_step(single, 64)
    assert mixed.result.bytes == single.result.bytes


def test_a_module_is_compared_by_its_parameters():
    one, other = models.network(cell()), models.network(cell())
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1
    assert answer.compare(one, models.network(cell()), torch.float32).fault == ""
    assert "off by" in answer.compare(one, other, torch.float32).fault


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("optimizer", list(bench_optimizers.OPTIMIZERS))
def test_each_optimizer_step_is_right(optimizer, dtype):
    on = cell(dtype)
    bench_optimizers.bench_optimizer_step(on, optimizer, "foreach")
    assert on.result.answer.rel_error <= on.result.answer.tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.1, float("inf")])
def test_a_step_of_the_wrong_size_is_seen(monkeypatch, factor, dtype):
    def wrong_step(optimizer, model):
        optimizer.param_groups[0]["lr"] = 1e-2 * factor
        optimizer.step()
        return model

    monkeypatch.setattr(bench_optimizers, "step", wrong_step)
    with pytest.raises(WrongAnswer, match="off by"):
        bench_optimizers.bench_optimizer_step(cell(dtype), "sgd", "single_tensor")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_training_step_whose_optimizer_does_nothing_is_seen(monkeypatch, dtype):
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)
    with pytest.raises(WrongAnswer, match="did not move along"):
        bench_step.bench_step(cell(dtype), 4)


def test_rmsprop_has_no_fused_implementation():
    with pytest.raises(NotImplementedError, match="RMSprop has no fused"):
        bench_optimizers.make("rmsprop", "fused", models.network(cell()))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("factor", "right"), [(1, True), (0, False), (0.9, False), (0.999, False), (1e7, False)]
)
def test_an_epoch_must_end_at_the_parameters_of_float64(monkeypatch, factor, right):
    sgd = torch.optim.SGD
    monkeypatch.setattr(torch.optim, "SGD", lambda p, lr: sgd(p, factor * lr))
    on = cell()
    if right:
        bench_epoch.bench_epoch(on, 64)
    else:
        with pytest.raises(WrongAnswer, match=r"off by|diverges"):
            bench_epoch.bench_epoch(on, 64)
    assert on.result.notes == ["made-up images of FashionMNIST's format"]


@pytest.mark.integration
@pytest.mark.parametrize("seed", [6, 41])
def test_units_that_rounding_turns_on_in_an_epoch_are_no_fault(seed):
    with answers.inputs(seed):
        bench_epoch.bench_epoch(cell(torch.float32), 64)


@pytest.mark.integration
def test_an_epoch_that_leaves_a_batch_out_is_wrong(monkeypatch):
    epoch = bench_epoch.epoch
    monkeypatch.setattr(bench_epoch, "epoch", lambda *args: epoch(*args[:2], list(args[2])[1:]))
    with pytest.raises(WrongAnswer, match="15 steps of the optimizer, not 16"):
        bench_epoch.bench_epoch(cell(), 64)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_parts_that_do_not_add_up_to_the_whole_are_reported(monkeypatch, factor):
    whole = 0.008
    each = factor * whole / len(bench_step.PARTS)
    monkeypatch.setattr(rounds, "measure", lambda *_, **__: Visit((whole,) * 8, 1))
    on = cell(plan=rounds.Plan(8, 0.1, 0.001))
    parts = dict.fromkeys(bench_step.PARTS, each)
    monkeypatch.setattr(bench_step, "_timed", {(on.device, on.dtype): parts})
    bench_step.bench_step_part(on, "whole")
    message = " ".join(on.result.notes)
    assert ("add up to" in message) == (factor != 1)
    if factor != 1:
        assert f"{factor:.2f} of the whole" in message


@pytest.mark.parametrize("part", [*bench_step.PARTS, "whole"])
def test_every_part_of_a_step_is_checked(monkeypatch, part):
    """A part that does what another part does, or nothing, is wrong."""
    bench_step.bench_step_part(cell(plan=rounds.Plan(1, 0, 0)), part)
    parts = bench_step.step_parts

    def without(on):
        (operation, *args), seen = parts(on)[part]
        made = operation(*arguments.copies(args))
        halved = arguments.walk(made, lambda x: x / 2 if x is not None else None)
        return {part: ((lambda *_: halved, *args), seen)}

    monkeypatch.setattr(bench_step, "step_parts", without)
    with pytest.raises(WrongAnswer):
        bench_step.bench_step_part(cell(), part)


def test_the_step_among_the_parts_moves_the_parameters_and_forgets_the_gradients():
    on = cell()
    (step, model, optimizer), seen = bench_step.step_parts(on)["step"]
    for _ in range(2):
        seen["prepare"](model, optimizer)
        before = [p.detach().clone() for p in model.parameters()]
        step(model, optimizer)
        assert not any(map(torch.equal, before, model.parameters()))
        assert all(p.grad is None for p in model.parameters())


def test_a_unit_that_rounding_turns_on_is_no_fault_and_one_that_it_cannot_is():
    """Float16 accumulates otherwise than float64: a unit near zero may be on in one of them."""
    model, (x, y) = models.network(cell()), models.samples(cell(), 4)
    stack = model.linear_relu_stack
    with torch.no_grad():
        sums = (x.flatten(1)[:1].double() @ stack[0].weight[5].double()).item()
        for bias, seen in ((-sums + 2e-7, False), (-sums + 1e-2, True)):
            stack[0].bias[5] = bias
            on = expected.units_on(model, x)
            flipped = [one.copy() for one in on]
            flipped[0][0, 5] ^= True
            made = expected.Arithmetic(torch.float32, x.device)
            parameters = list(model.parameters())
            loss, other = (
                expected.descent(made, parameters, x, y, units)[2][0].value
                for units in (on, flipped)
            )
            assert bool(abs(loss - other).max() == 0) is seen


def test_autocast_that_is_disabled_is_seen(monkeypatch):
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: autocast(kind, enabled=False))
    with pytest.raises(WrongAnswer, match=r"off by|dtype torch\.float32"):
        bench_step.bench_autocast_step(cell(torch.bfloat16), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_gradient_that_is_a_tenth_off_is_seen(dtype):
    def wrong(model, x, y):
        found = models.gradients(model, x, y)
        for one in found:
            one.view(-1)[one.abs().argmax()] *= 1.1
        return found

    on = cell(dtype)
    model, (x, y) = models.network(on), models.samples(on, 64)
    on(models.gradients, model, x, y, expect=expected.gradients)
    with pytest.raises(WrongAnswer, match="off by"):
        cell(dtype)(wrong, model, x, y, expect=expected.gradients)


def test_a_compiled_cell_knows_nothing_of_those_before(monkeypatch, tmp_path):
    compiled = []

    def backend(graph, inputs):
        folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        assert not any(folder.iterdir())
        Path(folder, "left").touch()
        images = [i for i in inputs if isinstance(i, torch.Tensor) and i.ndim == 4]
        compiled.append(([i.shape[0] for i in images], folder))
        return graph.forward

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiler, "_load", lambda _: None)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    for batch in (64, 1, 1024):
        on = cell()
        bench_step.bench_compiled(on, batch, "forward_backward")
        on.close()
    # Each is compiled once, for its own size: a number, where any size would have a symbol.
    assert [sizes for sizes, _ in compiled] == [[64], [1], [1024]]
    assert all(type(size) is int for sizes, _ in compiled for size in sizes)
    assert {folder.parent for _, folder in compiled} == {tmp_path}
    assert not any(tmp_path.iterdir())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert "TRITON_CACHE_DIR" not in os.environ


def test_code_that_would_be_compiled_while_it_is_timed_is_an_error():
    torch.compiler.reset()
    double = torch.compile(lambda x: 2 * x, backend="eager")
    with pytest.raises(RuntimeError, match="Detected recompile"):
        compiler.call_without_compiling(double, torch.ones(3))
    double(torch.ones(3))
    compiler.call_without_compiling(double, torch.ones(3))
    with pytest.raises(RuntimeError, match="Detected recompile"):
        compiler.call_without_compiling(double, torch.ones(3, dtype=torch.float64))


def test_gradients_of_the_whole_step_are_those_of_float64():
    for body in (bench_step.bench_step, bench_step.bench_autocast_step):
        on = cell(torch.bfloat16)
        body(on, 16)
        assert on.result.answer.rel_error <= on.result.answer.tolerance
