"""What the suite does on strict stand-ins for a Mac's GPU and for CUDA."""

import statistics
import sys
import types

import pytest
import torch

from bench.measure import cell, disturbance, kernels, refusal, rounds
from bench.measure.devices import find
from bench.suite.loading import workers
from bench.suite.training import bench_autograd, bench_optimizers, bench_step, models
from tests.helpers import strict

MPS = ("mps-2.6", "mps-2.14", "mps-2.15")
ONCE = rounds.Plan(1, 0, 0)


@pytest.fixture
def machine(request):
    """The device of the profile that a test names as its parameter."""
    with strict.machine(request.param) as device:
        yield device


def on(profiles):
    return pytest.mark.parametrize("machine", profiles, indirect=True)


def cell_on(machine, dtype=torch.float32, plan=ONCE):
    return cell.Cell(find(machine.profile.kind), dtype, plan)


@on(MPS)
@pytest.mark.parametrize(
    ("body", "params"),
    [
        (bench_autograd.bench_forward, {"batch": 4}),
        (bench_autograd.bench_backward, {"batch": 4}),
        (bench_autograd.bench_second_backward, {"batch": 4}),
        (bench_step.bench_step, {"batch": 4}),
        (bench_optimizers.bench_optimizer_step, {"optimizer": "adam", "implementation": "foreach"}),
    ],
)
def test_the_reference_of_a_module_asks_no_device_for_float64(machine, body, params):
    made = cell_on(machine)
    body(made, **params)
    answer = made.result.answer
    assert not answer.fault
    assert answer.rel_error <= answer.tolerance


@on(["mps-2.6"])
def test_autocast_that_has_disabled_itself_is_unsupported(machine):
    model = models.network(cell_on(machine), torch.float32)
    images = torch.rand(4, 1, 28, 28, device="mps")
    with (
        pytest.raises(NotImplementedError, match="Disabling autocast"),
        refusal.fallbacks(find("mps")),
        torch.autocast("mps", dtype=torch.bfloat16),
    ):
        model(images)


def test_autocast_of_the_host_that_has_disabled_itself_is_unsupported():
    with (
        pytest.raises(NotImplementedError, match="Disabling autocast"),
        refusal.fallbacks(find("cpu")),
        torch.autocast("cpu", dtype=torch.float64),
    ):
        pass


@on(["mps-2.15", "cuda"])
@pytest.mark.parametrize("true", [10e-6, 100e-6, 10e-3, 1.0])
def test_times_are_those_of_the_device(machine, true):
    device = find(machine.profile.kind)
    loop = rounds.compile_loop(machine.launch, (true,), {}, device.clock)
    plan = rounds.Plan(6, 0.03, 0.001, limit_s=0.4)
    cost = device.clock_cost(5)
    assert cost == pytest.approx(machine.profile.wait_s, rel=0.05)
    found = rounds.measure(loop, plan, cost)
    assert statistics.median(found.rounds_s) == pytest.approx(true, rel=0.03)


@on(["mps-2.15"])
def test_a_copy_that_the_host_does_not_wait_for_arrives_with_the_wait(machine):
    host, source = torch.zeros(4), torch.ones(4, device="mps")
    host.copy_(source, non_blocking=True)
    assert host.sum() == 0
    machine.synchronize()
    assert host.sum() == 4


def test_signs_that_mean_something_else_on_macos_are_not_used(monkeypatch):
    assert disturbance.switches() is None  # the tests have no counter
    counter = types.SimpleNamespace(getrusage=lambda _: types.SimpleNamespace(ru_nivcsw=7))
    counter.RUSAGE_SELF = 0
    monkeypatch.setattr(disturbance, "resource", counter)
    assert disturbance.switches() == 7
    reference = kernels.ReferenceKernels(kernels.all_kernels())
    assert len(reference.of_launches()) == 1
    monkeypatch.setattr(sys, "platform", "darwin")
    assert disturbance.switches() is None
    assert len(reference.of_launches()) == 0


def test_memory_of_workers_on_macos_needs_no_task_port(monkeypatch):
    class Worker:
        def memory_info(self):
            return types.SimpleNamespace(rss=4096)

        def memory_full_info(self):
            raise AssertionError("can block forever")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(workers, "_children", lambda: set())
    monkeypatch.setattr(workers, "_without_helpers", lambda _: [Worker()])
    assert workers.memory_of_workers() == 4096
