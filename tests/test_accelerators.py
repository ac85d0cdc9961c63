"""What the suite does on strict stand-ins for a Mac's GPU and for CUDA."""

import re
import statistics
import sys
import types
from pathlib import Path

import pytest
import torch

from bench.launch import command, runner
from bench.measure import (
    answer,
    cell,
    disturbance,
    doctor,
    kernels,
    references,
    refusal,
    rounds,
    visits,
)
from bench.measure.devices import find
from bench.plugin import revisits
from bench.records import reader
from bench.report import answers
from bench.report import doctor as words
from bench.suite.distributed import rank, ranks
from bench.suite.loading import bench_loader, workers
from bench.suite.tensors import bench_transfer
from bench.suite.training import bench_autograd, bench_optimizers, bench_step, models
from tests.helpers import strict
from tests.helpers.command import run_bench
from tests.helpers.listeners import RunListener
from tests.helpers.truths import Machine

ROOT = Path(__file__).parents[1]
MPS = ("mps-2.6", "mps-2.14", "mps-2.15")
#: The tests replace it.
REAL_READ = kernels.ReferenceKernel.read
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
        (bench_step.bench_step_part, {"part": "load"}),
        (bench_optimizers.bench_optimizer_step, {"optimizer": "adam", "implementation": "foreach"}),
    ],
)
def test_the_reference_of_a_module_asks_no_device_for_float64(machine, body, params):
    made = cell_on(machine)
    body(made, **params)
    answer = made.result.answer
    assert not answer.fault
    assert answer.rel_error <= answer.tolerance


@pytest.mark.integration
@on(["mps-2.15"])
def test_batches_on_the_device_are_checked_there(machine):
    made = cell_on(machine)
    bench_loader.bench_loader_to_device(made, "no")
    assert made.result.visits
    made.close()


@on(MPS)
@pytest.mark.parametrize("mode", ["blocking", "non_blocking"])
def test_a_mac_pins_memory_from_torch_2_15_on(machine, mode):
    made = cell_on(machine)
    if machine.profile.pins:
        bench_transfer.bench_host_to_device(made, 16, "pinned", mode)
        back = cell_on(machine)
        bench_transfer.bench_device_to_host(back, 16, "pinned", mode)
        assert made.result.answer.rel_error == back.result.answer.rel_error == 0
    else:
        with pytest.raises(NotImplementedError, match="not pinned for mps"):
            bench_transfer.bench_host_to_device(made, 16, "pinned", mode)


@on(["mps-2.15", "cuda"])
def test_a_step_in_mixed_precision_is_right(machine):
    made = cell_on(machine, torch.bfloat16)
    bench_step.bench_autocast_step(made, 4)
    assert not made.result.answer.fault


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


@on(["mps-2.15"])
def test_the_stand_in_waits_for_a_value_and_lets_no_work_of_the_host_be_free(machine):
    one = torch.ones(1, device="mps")
    machine.synchronize()
    start = machine.now()
    one.item()
    assert machine.now() - start >= machine.profile.wait_s
    machine.host_s = 0.5
    start = machine.now()
    torch.empty(4, device="mps")
    assert machine.now() - start == pytest.approx(0.5)


@on(["mps-2.15", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_stand_in_computes_a_large_product_once(machine, dtype, monkeypatch):
    monkeypatch.setattr(strict, "LARGE", 16)
    x = torch.rand(4, 4).to(dtype)
    on_device = x.to(machine.profile.kind)
    first, again = on_device @ on_device, torch.matmul(on_device, on_device.clone())
    assert first.data_ptr() != again.data_ptr()
    for product in (first, again):
        assert torch.allclose(product.cpu().float(), (x.float() @ x.float()), rtol=1e-3)
    on_device.mul_(2)
    changed = torch.matmul(on_device, on_device).cpu().float()
    assert torch.allclose(changed, 4 * (x.float() @ x.float()), rtol=1e-3)


@on(["mps-2.15"])
def test_the_clock_of_an_accelerator_settles_before_the_first_cell(machine, monkeypatch):
    """Its reference kernel runs until the clock is up, here after 20 ms of work."""

    def read(kernel):
        machine.slowness = 3.0 if machine.clock.host < 20e-3 else 1.0
        return REAL_READ(kernel)

    monkeypatch.setattr(kernels.ReferenceKernel, "read", read)
    monkeypatch.setattr(kernels, "SEARCH_S", 1e-4)
    found = kernels.prepare("key", [find("mps")])
    (own,) = found.named(["device mps"])
    assert own.best_s == pytest.approx(50e-3, rel=0.01)


def test_a_float16_arange_whose_index_overflows_is_wrong():
    """As on MPS up to torch 2.11: float16 holds no index above 65,504."""
    n = 2**17
    want = references.spaced(0, 1, 1 / n, dtype=torch.float16)
    overflows = torch.arange(n).half() * torch.tensor(1 / n).half()
    right = torch.arange(0, 1, 1 / n, dtype=torch.float16)
    device = torch.device("cpu")
    assert not answer.judge(right, want, device).fault
    assert answer.judge(overflows, want, device).fault.startswith("off by")


def test_signs_that_mean_something_else_on_macos_are_not_used(monkeypatch):
    assert disturbance.switches() is None  # the tests have no counter
    counter = types.SimpleNamespace(getrusage=lambda _: types.SimpleNamespace(ru_nivcsw=7))
    counter.RUSAGE_SELF = 0
    monkeypatch.setattr(disturbance, "resource", counter)
    assert disturbance.switches() == 7
    reference = kernels.ReferenceKernels(kernels.all_kernels())
    assert [one.name for one in reference.of_device("mps")] == ["core"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert disturbance.switches() is None
    assert list(reference.of_device("mps")) == []
    assert list(reference.of_device()) == list(reference)


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


@pytest.mark.integration
@on(["unusable", "unusable-mps", "full"])
def test_an_accelerator_that_cannot_be_used_costs_only_its_own_cells(suite, machine):
    suite.write(TWO)
    kind = machine.profile.kind
    result = suite.run("--dtype", "float32")
    assert result.ret == 0
    rows = suite.rows()
    assert rows.device.tolist() == ["cpu", "cpu"]
    assert rows.status.tolist() == ["ok", "ok"]
    text = " ".join(result.stdout.str().split())
    assert re.search(rf"{kind} cannot be used: .*; .* or time only the CPU", text)
    result = suite.run("--dtype", "float32", "--device", kind)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: --device: {kind} cannot be used: " in " ".join(result.stderr.str().split())
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
    assert reasons["abs"].startswith(
        "cuda has failed since an earlier cell of this process: CUDA error"
    )


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
    place = command.Installation(python=python)
    _, file = runner.run(words, 1, pytester.path / "a.csv", None, listener, place=place)
    found = reader.read(file)
    assert dict(zip(found.benchmark + found.device, found.status, strict=True)) == {
        **{"negcuda": "error", "negcpu": "ok", "morecuda": "ok"},
        **{"morecpu": "ok", "abscuda": "ok", "abscpu": "ok"},
    }
    (line,) = [one for one in listener.lines if "fresh process" in one]
    assert line.startswith("cuda has failed since an earlier cell of this process: CUDA error")


@on(["unusable", "unusable-mps", "full"])
def test_info_and_doctor_name_a_device_that_cannot_be_used(machine, monkeypatch):
    """They name the cause and what to do about it, in lines of a terminal."""
    found = doctor.device(find(machine.profile.kind))
    assert (found.code, found.fit) == ("unusable", True)
    cause, advice = (
        words.seen(found.code, found.figures),
        words.remedy(found.remedies, found.figures),
    )
    assert "kernel image" in cause or "out of memory" in cause
    assert advice.startswith(("install a torch that", "end the programs that hold"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(doctor, "examine", lambda names: iter([found]))
    shown = run_bench("info").output
    examined = run_bench("doctor", "--processes", "0").output
    for text in (shown, examined):
        assert max(map(len, text.splitlines())) <= 80
        assert cause in " ".join(text.split())
    assert advice in " ".join(examined.split())


def test_a_rank_runs_on_the_device_of_its_row(monkeypatch):
    assert rank.device_of_rank(torch.device("cuda"), 3) == torch.device("cuda", 3)
    assert rank.device_of_rank(torch.device("cuda", 1), 0) == torch.device("cuda", 1)
    assert rank.device_of_rank(torch.device("cpu"), 1) == torch.device("cpu")
    with pytest.raises(NotImplementedError, match="on this cuda:1, at most 1"):
        ranks.Ranks(torch.device("cuda", 1), 2, "step", 4)
    monkeypatch.setattr(rank.distributed, "is_nccl_available", lambda: False)
    assert rank.backend(torch.device("cuda")) == "gloo"
    monkeypatch.setattr(rank.distributed, "is_nccl_available", lambda: True)
    assert rank.backend(torch.device("cuda")) == "nccl"


#: Operation -> family, seconds on the CPU, how many times as long on MPS, params.
M1 = {
    "gru": ("training", 2e-3, 7.6, "batch=16"),
    "layer_norm": ("training", 1e-3, 0.5, "layout=contiguous;n=256"),
    "conv2d": ("training", 10e-3, 0.2, "batch=1;layout=contiguous;side=56"),
    "attention": ("training", 8e-3, 0.25, "causal=no;n=512"),
    "topk": ("tensors", 1e-3, 5.0, "n=65536"),
}


def test_the_verdict_on_a_modelled_mac_says_what_its_gpu_loses_and_wins():
    made = Machine(name="m1", runs=3)
    for name, (family, seconds, factor, params) in M1.items():
        known = {"family": family, "benchmark": name, "params": params}
        made.cell(seconds, device="cpu", **known)
        made.cell(factor * seconds, device="mps", **known)
    for dim, factor in ((2, 0.4), (0, 20)):  # a reduction of the first axis is slow
        known = {"benchmark": "sum_dim", "params": f"dim={dim};layout=contiguous"}
        made.cell(1e-4, device="cpu", **known).cell(factor * 1e-4, device="mps", **known)
    for n in (64, 256, 512, 1024):  # equal at 184
        known = {"benchmark": "matmul", "params": f"n={n}", "flop": 2 * n**3}
        made.cell(4.2e-11 * n**3, device="cpu", **known)
        made.cell(2.5e-4 + 2e-12 * n**3, device="mps", **known)
    text = " ".join(answers.text(made.frame(), "device").split())
    for line in (
        "gru batch=16 7.6x (",
        "Faster: conv2d batch=1 layout=contiguous side=56 5.0x (",
        "Faster: matrix products 2.2x",
        "convolutions and attention 4.5x",
        "Slower: layers and losses 1.96x",
        "indexing and sorting 5.0x",
        "Slower: sum_dim dim=0 layout=contiguous 20x (",
        "matmul in float32: mps is faster than cpu from n 18",
    ):
        assert line in text, text


@on(["mps-2.15"])
def test_the_clock_of_an_accelerator_is_recorded_over_the_run(machine, monkeypatch):
    """A laptop that gets hot: the device becomes slower by half while the cells are timed."""
    monkeypatch.setattr(kernels.ReferenceKernel, "read", REAL_READ)
    monkeypatch.setattr(sys, "platform", "darwin")
    device = find("mps")
    own = kernels.accelerator(device)
    own.search(0)
    own.learn([own.read()])
    reference = kernels.ReferenceKernels([*kernels.all_kernels(), own])
    cells = []
    for number in range(12):
        machine.slowness = 1.0 if number < 6 else 1.5
        made = cell.Cell(device, torch.float32, rounds.Plan(2, 0, 1e-3), reference=reference)
        made(torch.neg, made.tensor(4))
        visit = made.result.visits[0]
        assert visit.kernels_s.keys() == {"device mps"}
        cells.append(types.SimpleNamespace(result=made.result, visited=number))
    columns = [visits.judge(one.result.visits, reference).columns for one in cells]
    assert columns[0]["slowdown"] == pytest.approx(1.0)
    assert columns[-1]["slowdown"] == pytest.approx(1.5, rel=0.03)
    (line,) = revisits.heated(cells, reference)
    assert line.startswith("mps took 1.5 times as long for the same work at the end of the run")
    assert revisits.heated(cells[:6] * 2, reference) == []
