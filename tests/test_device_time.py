"""What only an accelerator has: its own time, its memory, and operations that leave it."""

import warnings

import pytest
import torch

from bench.measure import devices, refusal, rounds

KERNEL = """
from tests.helpers import simulated

def kernel(x):
    simulated.DEVICE.launch({seconds})
    {more}
    return x + 1

@dtypes("float32")
def bench_kernel(cell):
    cell(kernel, cell.tensor(4))
"""


def test_device_time_and_launch_overhead_are_apart(suite, simulated):
    """A kernel shorter than its launch: the host is what takes the time, and both are reported."""
    simulated.launch_s = 8e-6
    suite.write(KERNEL.format(seconds=1e-6, more=""))
    suite.run("--device", "sim")
    row = suite.rows().iloc[0]
    assert row.median_s == pytest.approx(8e-6, rel=0.15)
    assert row.dispatch_s == pytest.approx(8e-6, rel=0.01)
    assert row.device_s == pytest.approx(1e-6, rel=0.01)


def test_device_time_of_a_long_kernel_is_its_whole_time(suite, simulated):
    suite.write(KERNEL.format(seconds=3e-3, more=""))
    suite.run("--device", "sim")
    row = suite.rows().iloc[0]
    assert row.device_s == pytest.approx(3e-3, rel=0.01)
    assert row.median_s == pytest.approx(3e-3, rel=0.01)


def test_an_operation_that_waits_by_itself_has_no_device_time(suite, simulated):
    suite.write(KERNEL.format(seconds=1e-3, more="simulated.DEVICE.synchronize()"))
    suite.run("--device", "sim")
    assert suite.rows().status[0] == "ok"
    assert suite.rows().device_s.isna().all()


def test_a_long_launch_is_timed_one_by_one(simulated):
    """Twenty launches outlast the work that hides them; one does not."""
    simulated.launch_s = 10e-3

    def loop(calls):
        for _ in range(calls):
            simulated.launch(1e-3)

    assert rounds.device_time(loop, simulated.device()) == pytest.approx(1e-3)


def test_what_is_timed_beside_the_rounds_is_no_multiple_of_a_slow_call(simulated):
    calls = []

    def loop(count):
        calls.append(count)
        for _ in range(count):
            simulated.launch(1.0)
        return count * 2e-6

    assert rounds.dispatch(loop, simulated.synchronize, call_s=1.0) == pytest.approx(2e-6)
    assert rounds.device_time(loop, simulated.device(), call_s=1.0) == pytest.approx(1.0)
    assert calls == [1, 1, 1, 1]


def test_peak_memory_is_of_the_call_alone(suite, simulated):
    suite.write(KERNEL.format(seconds=1e-3, more="simulated.DEVICE.allocated += 4096"))
    suite.run("--device", "sim")
    assert suite.rows().peak_bytes[0] == 4096


def test_an_operation_that_left_the_device_is_named(suite, simulated):
    warn = (
        "import warnings; warnings.warn(\"The operator 'aten::sort' is not currently supported "
        'on the MPS backend and will fall back to run on the CPU. This may be slow.")'
    )
    suite.write(KERNEL.format(seconds=1e-3, more=warn))
    result = suite.run("--device", "sim")
    row = suite.rows().iloc[0]
    assert (row.status, row.reason) == ("fallback", "ran on the CPU in part: aten::sort")
    assert row.median_s > 0
    result.stdout.fnmatch_lines(
        ["fallback: it kernel sim float32: ran on the CPU in part: aten::sort"]
    )


def test_other_warnings_pass_through(simulated):
    before = torch.is_warn_always_enabled()

    def record():
        with refusal.fallbacks(simulated.device()) as names:
            assert torch.is_warn_always_enabled()
            warnings.warn("of another kind", stacklevel=1)
        return names

    with pytest.warns(UserWarning, match="of another kind"):
        assert record() == []
    assert torch.is_warn_always_enabled() == before


def test_out_of_memory_is_survived(suite, simulated):
    suite.write("""
    from tests.helpers import simulated

    def greedy(x):
        raise torch.OutOfMemoryError("simulated out of memory. Tried to allocate 99 GiB")

    @dtypes("float32")
    def bench_greedy(cell):
        cell(greedy, cell.tensor(4))

    @dtypes("float32")
    def bench_after(cell):
        assert simulated.DEVICE.freed == 1
        simulated.DEVICE.launch(1e-3)
        cell(torch.neg, cell.tensor(4))
    """)
    suite.run("--device", "sim", "--profile", "smoke")
    rows = suite.rows().set_index("benchmark")
    assert rows.status.to_dict() == {"greedy": "oom", "after": "ok"}
    assert "Tried to allocate 99 GiB" in rows.reason["greedy"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_events_agree_with_the_clock():
    device = devices.find("cuda")
    x = torch.rand(8192, 8192, device="cuda")
    loop = rounds.compile_loop(torch.neg, (x,), {}, device.now)
    seconds = rounds.device_time(loop, device)
    whole = rounds.measure(
        rounds.compile_loop(torch.neg, (x,), {}, device.clock), rounds.Plan(5, 0.1, 0.001)
    )
    assert seconds is not None
    assert 0 < seconds <= 1.05 * min(whole.rounds_s)
    assert device.peak_bytes(lambda: torch.neg(x)) == x.nbytes
