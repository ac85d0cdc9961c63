"""What the suite does on strict stand-ins for a Mac's GPU and for CUDA."""

import platform
import statistics
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import main
from bench.launch import runner
from bench.measure import cell, devices, disturbance, doctor, kernels, refusal, rounds
from bench.measure.devices import find
from bench.records import reader
from bench.report import doctor as words
from bench.suite.loading import workers
from bench.suite.training import bench_autograd, bench_optimizers, bench_step, models
from tests.helpers import strict
from tests.helpers.listeners import RunListener

ROOT = Path(__file__).parents[1]
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


TWO = """
def bench_neg(cell):
    cell(torch.neg, cell.tensor(4))


def bench_abs(cell):
    cell(torch.abs, cell.tensor(4))
"""


@on(["unusable", "unusable-mps", "full"])
def test_an_accelerator_that_cannot_be_used_costs_only_its_own_cells(suite, machine):
    suite.write(TWO)
    kind = machine.profile.kind
    result = suite.run("--dtype", "float32")
    assert result.ret == 0
    rows = suite.rows()
    assert rows.device.tolist() == ["cpu", "cpu"]
    assert rows.status.tolist() == ["ok", "ok"]
    result.stdout.fnmatch_lines([f"{kind} cannot be used: *; * or time only the CPU*"])
    result = suite.run("--dtype", "float32", "--device", kind)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --device: {kind} cannot be used: *; *"])
    assert len(suite.files()) == 1


FAILS = """
from tests.helpers.strict import CURRENT


def bench_neg(cell):
    if cell.device.type != "cpu":
        CURRENT["device"].fail()
    cell(torch.neg, cell.tensor(4))
"""


@on(["sticky"])
def test_after_a_sticky_error_only_the_cells_of_the_device_fail(suite, machine):
    suite.write(FAILS + TWO.replace("bench_neg", "bench_more"))
    suite.run("--dtype", "float32")
    found = suite.rows().set_index(["device", "benchmark"])
    assert (found.loc["cpu"].status == "ok").all()
    reasons = found.loc["cuda"].reason
    assert "device-side assert" in reasons["neg"]
    assert reasons["abs"].startswith("cuda fails since an earlier cell of this process: CUDA error")


@pytest.mark.integration
def test_bench_run_continues_in_a_fresh_process_after_a_sticky_error(pytester, python, monkeypatch):
    (pytester.path / "conftest.py").write_text(
        "from tests.helpers import strict\nmade = strict.machine('sticky')\nmade.__enter__()\n"
    )
    more = "import torch\n" + FAILS + TWO.replace("bench_neg", "bench_more")
    (pytester.path / "bench_it.py").write_text(more)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    listener = RunListener()
    words = ["bench_it.py", "--dtype=float32", "--device=cuda,cpu", "--budget=0", "--machine=here"]
    place = runner.Place(python=python)
    _, file = runner.run(words, 1, pytester.path / "a.csv", None, listener, place=place)
    found = reader.read(file)
    assert dict(zip(found.benchmark + found.device, found.status, strict=True)) == {
        **{"negcuda": "error", "negcpu": "ok", "morecuda": "ok"},
        **{"morecpu": "ok", "abscuda": "ok", "abscpu": "ok"},
    }
    (line,) = [one for one in listener.lines if "fresh process" in one]
    assert line.startswith("cuda fails since an earlier cell of this process: CUDA error")


@on(["unusable"])
def test_info_and_doctor_name_a_device_that_cannot_be_used(machine, monkeypatch):
    found = doctor.device(find("cuda"))
    assert (found.code, found.fit) == ("unusable", True)
    assert "no kernel image" in words.seen(found.code, found.figures)
    shown = CliRunner().invoke(main.app, ["info"])
    assert "cannot be used: CUDA error: no kernel image" in shown.output


@pytest.mark.parametrize(
    ("is_mps", "seen"),
    [
        (True, "mps: torch 2.15.0 needs macOS 15, this is macOS 13.6"),
        (False, "cuda: torch 2.15.0 was built for CUDA 13.2, and the NVIDIA driver 550.1 supports"),
    ],
)
def test_an_accelerator_that_torch_cannot_use_is_explained(monkeypatch, is_mps, seen):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.15.0"))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: is_mps)
    monkeypatch.setattr(platform, "mac_ver", lambda: ("13.6", "", ""))
    smi = "| NVIDIA-SMI 550.1   Driver Version: 550.1    CUDA Version: 12.4 |"
    done = subprocess.CompletedProcess([], 0, smi, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert devices.unavailable().startswith(seen)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert devices.unavailable() == ""


def test_a_driver_that_does_not_give_the_name_of_its_gpu(monkeypatch):
    def raises(_):
        raise RuntimeError("CUDA unknown error")

    monkeypatch.setattr(torch.cuda, "get_device_properties", raises)
    assert devices._accelerator("cuda").fault() == "CUDA unknown error"
