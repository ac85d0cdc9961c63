"""What depends on the size: crossovers between devices, and the overhead of a small call."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.truths import BATCHES, Machine, factor, findings, one


def test_a_crossover_is_found_with_its_interval():
    made = one(Machine().crossing(96), "device")
    assert (made.advice, made.subject.device, made.rival.device) == ("above", "mps", "cpu")
    assert (made.param, made.smallest, made.largest, made.at) == ("batch", 1, 4096, 4096)
    where = made.crossover
    assert 85 <= where.size <= 108
    assert 64 <= where.low <= where.size <= where.high <= 256
    assert made.ratio.value < 1 / 3
    assert made.n == 2 * len(BATCHES)


@pytest.mark.parametrize(
    ("overheads", "advice"), [((1e-3, 5e-3), "never"), ((5e-3, 1e-3), "always")]
)
def test_a_device_that_never_or_always_wins_is_found(overheads, advice):
    machine = Machine().sweep("cpu", overheads[0], 1e-5)
    made = one(machine.sweep("mps", overheads[1], 1e-5 if advice == "never" else 1e-6), "device")
    assert (made.advice, made.crossover) == (advice, None)


@pytest.mark.integration
@settings(max_examples=60, deadline=None)
@given(
    at=st.floats(3, 2000),
    gain=st.floats(2, 50),
    noise=st.floats(0, 0.01),
    seed=st.integers(0, 10_000),
)
def test_any_crossover_is_between_the_sizes_that_enclose_it(at, gain, noise, seed):
    machine = Machine(noise=noise, seed=seed).crossing(at, gain=gain)
    for made in findings(machine, "device"):
        if made.crossover:
            # Off by what a straight line between two sizes, four times apart, can be off.
            assert abs(math.log(made.crossover.size / at)) < math.log(4)
        else:  # the sides are as good as equal at the sizes beside it
            assert made.advice != "never" or at > 0.8 * BATCHES[-1] / 4


def test_a_size_without_a_time_does_not_end_the_advice():
    machine = Machine().crossing(96)
    for row in machine.rows:
        if row["device"] == "mps" and row["params"] == "batch=4096":
            row |= {"status": "oom", "reason": "out of memory", "median_s": None}
    made = one(machine, "device")
    assert (made.advice, made.at, made.largest) == ("above", 1024, 1024)
    assert 2 < factor(made.ratio) < 3


def test_the_ratio_is_that_of_the_largest_size_with_a_notable_one():
    machine = Machine(noise=0.001)
    for size, here, there in ((1, 2, 4), (4, 4, 4), (16, 5, 2), (64, 20, 20)):
        machine.sweep("cpu", 1e-3 * here, 0, sizes=(size,))
        machine.sweep("mps", 1e-3 * there, 0, sizes=(size,))
    made = one(machine, "device")
    assert made.crossover.size == pytest.approx(4, rel=0.1)
    assert (made.at, made.largest) == (16, 64)
    # A device that is faster by less than anyone would care for.
    close = Machine(noise=0.001).sweep("cpu", 1.05e-3, 1e-5).sweep("mps", 1e-3, 0.96e-5)
    assert findings(close, "device") == []


def test_half_precision_is_compared_with_the_fastest_dtype_of_the_cpu():
    """The CPU takes 30 times as long in float16: a device that beats that need not be faster."""
    machine = Machine()
    for n in (64, 256, 1024, 4096):
        for dtype, slow in (("float32", 1), ("float16", 30)):
            known = {"benchmark": "matmul", "dtype": dtype, "params": f"n={n}"}
            machine.cell(slow * 2e-12 * n**3, device="cpu", **known)
            machine.cell(2e-4 + 1e-13 * n**3, device="mps", **known)
    half = next(made for made in findings(machine, "device") if made.subject.dtype == "float16")
    assert half.crossover.size == pytest.approx(474, rel=0.1)
    assert factor(half.ratio) < 21


@pytest.mark.parametrize(
    ("param", "sizes", "swept"),
    [("batch_size", (1, 8, 64), 1), ("dim", (1, 2, 3), 0), ("tokens", (128, 256), 0)],
)
def test_any_number_of_a_wide_range_is_a_size(param, sizes, swept):
    machine = Machine().sweep("cpu", 0, 1e-5, param=param, sizes=sizes)
    machine.sweep("mps", 5e-5, 1e-6, param=param, sizes=sizes)
    assert len(findings(machine, "device")) == swept
    assert len(findings(machine, "benchmark")) == 1 - swept


def test_without_times_of_the_cpu_the_devices_are_compared_with_each_other():
    machine = Machine().sweep("xpu", 1e-3, 1e-5).sweep("cuda", 1e-4, 1e-6)
    made = one(machine, "device")
    assert (made.subject.device, made.rival.device, made.advice) == ("cuda", "xpu", "always")
    assert one(machine, "device group").rival.device == "xpu"


def test_the_overhead_is_that_of_the_smallest_call_or_unknown():
    machine = Machine(noise=0)
    machine.fault("unstable", "", benchmark="add", params="form=out_of_place;n=16")
    for n in (65536, 1048576, 33554432):
        machine.cell(1e-9 * n, benchmark="add", params=f"form=out_of_place;n={n}")
    assert findings(machine, "overhead") == []
