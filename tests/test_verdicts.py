"""Verdicts on machines whose truth is known, and none where there is nothing to say."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truths import BATCHES, Machine

from bench.report import verdict
from bench.verdicts import rules


def told(machine, topic=None):
    return [v.text for v in rules.of(machine.frame()) if topic in (None, v.topic)]


def test_a_crossover_is_found_and_told_with_its_interval():
    (said,) = told(Machine().crossing(96), "device")
    found = re.match(
        r"step in float32: mps overtakes cpu at batch (\d+) \((\d+) to (\d+)\); "
        r"at 4,096 it is (3\.\d)x faster",
        said,
    )
    assert found, said
    at, low, high = map(int, found.groups()[:3])
    assert 85 <= at <= 108
    assert 64 <= low <= at <= high <= 256


def test_a_device_that_never_or_always_wins_is_told_so():
    never = Machine().sweep("cpu", 1e-3, 1e-5).sweep("mps", 5e-3, 1e-5)
    (said,) = told(never, "device")
    assert said.startswith("step in float32: mps is never faster than cpu in the range measured")
    always = Machine().sweep("cpu", 5e-3, 1e-5).sweep("mps", 1e-3, 1e-6)
    (said,) = told(always, "device")
    assert said.startswith("step in float32: mps is faster than cpu in the range measured")


@settings(max_examples=60, deadline=None)
@given(
    at=st.floats(3, 2000),
    gain=st.floats(2, 50),
    noise=st.floats(0, 0.01),
    seed=st.integers(0, 10_000),
)
def test_any_crossover_lies_between_the_sizes_that_enclose_it(at, gain, noise, seed):
    machine = Machine(noise=noise, seed=seed).crossing(at, gain=gain)
    for said in told(machine, "device"):
        found = re.search(r"mps overtakes cpu at batch ([\d,]+)", said)
        if found:
            # Off by what a straight line between two sizes, four times apart, can be off.
            assert abs(math.log(int(found[1].replace(",", "")) / at)) < math.log(4)
        else:  # where the sides are as good as equal at the sizes beside it
            assert "never" not in said or at > 0.8 * BATCHES[-1] / 4


def test_a_size_without_a_time_does_not_end_the_advice():
    machine = Machine().crossing(96)
    for row in machine.rows:
        if row["device"] == "mps" and row["params"] == "batch=4096":
            row |= {"status": "oom", "reason": "out of memory", "median_s": None}
    (said,) = told(machine, "device")
    assert re.match(r"step in float32: mps overtakes cpu at batch .*; at 1,024 it is 2\.\dx", said)


def test_a_ratio_that_is_none_is_not_told():
    machine = Machine(noise=0.001)
    for size, here, there in ((1, 2, 4), (4, 4, 4), (16, 5, 2), (64, 20, 20)):
        machine.sweep("cpu", 1e-3 * here, 0, sizes=(size,))
        machine.sweep("mps", 1e-3 * there, 0, sizes=(size,))
    (said,) = told(machine, "device")
    assert re.fullmatch(r"step in float32: mps overtakes cpu at batch 4 \(\S+ to \S+\)", said)
    # A device that is faster by less than anyone would care for is no news.
    close = Machine(noise=0.001).sweep("cpu", 1.05e-3, 1e-5).sweep("mps", 1e-3, 0.96e-5)
    assert told(close, "device") == []


def test_a_slow_dtype_is_to_be_avoided_and_a_fast_one_used():
    machine = Machine()
    for dtype, seconds in (("float32", 2.4e-3), ("float16", 40 * 2.4e-3), ("bfloat16", 0.6e-3)):
        machine.cell(seconds, benchmark="matmul", dtype=dtype, params="n=512")
    slow, fast = told(machine, "dtype")
    assert re.fullmatch(
        r"float16 on cpu: matmul n=512 is (39|40|41)x slower \(.*\) than float32: avoid", slow
    )
    assert re.fullmatch(
        r"bfloat16 on cpu: matmul n=512 is (3\.9|4\.0|4\.1)x faster \(.*\) than float32: "
        r"use it where its precision is enough",
        fast,
    )


@pytest.mark.parametrize(("step_s", "bottleneck"), [(1e-3, True), (1.0, False)])
def test_loading_that_does_not_keep_up_is_told(step_s, bottleneck):
    machine = Machine()
    for workers, seconds in ((0, 0.2), (1, 0.19), (2, 0.1)):
        known = {"family": "loading", "benchmark": "loader", "items": 256, "item_unit": "image"}
        machine.cell(seconds, params=f"batch=64;workers={workers}", **known)
    step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
    said = " ".join(told(machine.cell(step_s, **step), "loading"))
    assert re.search(r"workers=2 batch=64 is the best, 2,5\d\d images/s, 2\.0x faster", said)
    assert ("loading is the bottleneck" in said) is bottleneck
    assert ("loading keeps up" in said) is not bottleneck


LOADER = {"family": "loading", "benchmark": "loader", "items": 256, "item_unit": "image"}


def loaders(times, **machine):
    """What is said of a machine whose epochs take these seconds, by batch and workers."""
    made = Machine(**machine)
    for (batch, workers), seconds in times.items():
        made.cell(seconds, params=f"batch={batch};workers={workers}", **LOADER)
    return made


def test_workers_that_cost_are_told():
    (said,) = told(loaders({(64, 0): 0.1, (64, 1): 0.3, (64, 2): 0.18}), "loading")
    assert re.fullmatch(
        r"loading: workers=0 batch=64 is the best, 2,5\d\d images/s; the best with workers, "
        r"workers=2 batch=64, is 1\.8x slower \(1\.[78] to 1\.[89]\)",
        said,
    )


@pytest.mark.parametrize(("workers", "which"), [(0, "with"), (2, "without")])
def test_no_difference_is_said_only_where_one_was_looked_for(workers, which):
    times = {(64, workers): 0.1, (64, 2 - workers): 0.101}
    (said,) = told(loaders(times, noise=0.002), "loading")
    assert "is among the best, 2,5" in said
    assert said.endswith(f"images/s; no difference worth telling is seen {which} workers")
    machine = loaders({(64, workers): 0.1})
    machine.fault("unstable", "two levels", params=f"batch=64;workers={2 - workers}", **LOADER)
    (said,) = told(machine, "loading")
    assert re.search(r"is the best, 2,5\d\d images/s; 1 of 2 settings has no time$", said)


def test_settings_as_good_as_the_best_are_named():
    times = {(64, 0): 0.3, (128, 2): 0.1, (128, 4): 0.101, (64, 2): 0.102, (8, 2): 0.2}
    (said,) = told(loaders(times), "loading")
    assert re.fullmatch(
        r"loading: workers=2 batch=128 is among the best, 2,5\d\d images/s, (2\.9|3\.\d)x faster "
        r"\(.*\) than workers=0 batch=64; "
        r"workers=4 batch=128 and workers=2 batch=64 may be about as fast",
        said,
    )


def test_a_lucky_run_makes_no_bottleneck():
    machine = loaders({(64, 1): 0.1, (64, 2): 0.2}, noise=0)
    machine.rows[-1]["median_s"] = 0.05
    step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
    machine.cell(64 / 4000, **step)
    said = told(machine, "loading")
    assert "loading gives 2,560 images/s at best (batch=64 workers=1)" in said
    assert said[-1].endswith("takes 4,000 samples/s (float32, batch=64): loading is the bottleneck")


def test_loading_about_as_fast_as_training_is_no_bottleneck():
    machine = loaders({(64, 1): 0.1})
    step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
    said = told(machine.cell(64 / 2700, **step), "loading")
    assert said[-1].endswith("neither is clearly the bottleneck")


def test_what_is_wrong_comes_first():
    machine = Machine().crossing(96)
    machine.fault("wrong", "off by 0.3", benchmark="linear", device="mps", params="n=4")
    machine.fault("unsupported", "no float64", benchmark="linear", device="mps", dtype="float64")
    said = told(machine)
    assert said[0] == "linear n=4 in float32 on mps is wrong: off by 0.3"
    assert said[-1] == "unsupported on mps in float64: linear"


def test_what_is_refused_is_named_no_wider_than_it_is():
    machine = Machine()
    for optimizer in ("adam", "rmsprop"):
        for name in ("foreach", "fused"):
            step = {"family": "training", "benchmark": "optimizer_step"}
            step |= {"params": f"implementation={name};optimizer={optimizer}"}
            if (optimizer, name) == ("rmsprop", "fused"):
                machine.fault("unsupported", "no such", **step)
            else:
                machine.cell(1e-3, **step)
    for start in ("fork", "forkserver", "spawn"):
        known = {"benchmark": "lambda", "params": f"start={start};transform=lambda"}
        if start == "fork":
            machine.cell(1e-3, **known)
        else:
            machine.fault("unsupported", "no such", **known)
    for n in (16, 256):
        machine.fault("unsupported", "no such", benchmark="to_numpy", params=f"n={n}")
        for m in (1, 2):
            known = {"benchmark": "bmm", "params": f"m={m};n={n}"}
            if (n, m) in ((16, 1), (256, 2)):
                machine.fault("unsupported", "no such", **known)
            else:
                machine.cell(1e-3, **known)
    assert told(machine, "unsupported") == [
        "unsupported on cpu in float32: optimizer_step (implementation=fused optimizer=rmsprop), "
        "lambda (start=forkserver|spawn), to_numpy, bmm (m=1 n=16 and m=2 n=256)"
    ]


def test_an_answer_that_is_wrong_in_one_run_is_wrong():
    machine = Machine().cell(1e-3, benchmark="linear")
    machine.rows[0] |= {"status": "wrong", "reason": "off by 0.3"}
    assert told(machine) == ["linear in float32 on cpu is wrong: off by 0.3"]


def test_what_fails_in_some_runs_is_told_beside_its_time():
    machine = Machine()
    for benchmark in ("linear", "conv2d", "bmm"):
        machine.cell(1e-3, benchmark=benchmark, params="n=4")
    for row in (machine.rows[0], machine.rows[1]):
        row |= {"status": "oom", "reason": "out of memory " + 1000 * "x", "median_s": None}
    machine.rows[5] |= {"status": "unstable", "median_s": None}
    (said,) = told(machine)
    assert said.startswith("linear n=4 in float32 on cpu is oom in 2 of 5 runs: out of memory xxx")
    assert len(said) < 400


def test_what_could_not_be_timed_is_no_absence_of_a_difference():
    machine = Machine().cell(1e-3, benchmark="neg").fault("unstable", "", benchmark="abs")
    assert told(machine) == ["1 of 2 cells could not be timed well enough to say anything of them"]
    assert verdict.NOTHING not in verdict.text(machine.frame())


def test_runs_of_other_cells_are_no_replicates():
    machine = Machine(runs=1).cell(1e-3, benchmark="neg").cell(1e-3, benchmark="abs")
    machine.rows[1]["run_id"] = "another"
    assert "A single run only advises" in verdict.text(machine.frame())
    assert "A single run only advises" not in verdict.text(Machine().cell(1e-3).frame())


def test_optimizers_in_place_and_copies():
    machine = Machine()
    for name, seconds in (("single_tensor", 8e-4), ("foreach", 4e-4), ("fused", 1e-4)):
        params = f"implementation={name};optimizer=adam"
        machine.cell(seconds, family="training", benchmark="optimizer_step", params=params)
    for form, seconds in (("in_place", 8e-3), ("out_of_place", 4e-2)):
        machine.cell(seconds, benchmark="add", params=f"form={form};n=33554432", bytes=4e8)
    machine.cell(6e-4, benchmark="tensor_from_array", params="n=4194304")
    machine.cell(6e-7, benchmark="from_numpy", params="n=4194304")
    (said,) = told(machine, "optimizer")
    assert re.match(
        r"adam on cpu: fused is the fastest, (7\.9|8\.\d)x faster \(.*single_tensor", said
    )
    (said,) = told(machine, "in place")
    assert re.match(r"add n=33554432 on cpu: in place is (4\.9|5\.\d)x faster", said)
    (said,) = told(machine, "copy")
    assert "from_numpy shares the memory in 60" in said


def optimizer(times, **faults):
    """What is said of implementations of Adam that take these seconds, or end in this status."""
    machine = Machine()
    known = {"family": "training", "benchmark": "optimizer_step"}
    for name, seconds in times.items():
        machine.cell(seconds, params=f"implementation={name};optimizer=adam", **known)
    for name, status in faults.items():
        machine.fault(status, "x", params=f"implementation={name};optimizer=adam", **known)
    return told(machine, "optimizer")


def test_the_fastest_is_faster_than_every_other():
    (said,) = optimizer({"single_tensor": 4e-4, "foreach": 1.05e-4, "fused": 1e-4})
    assert re.fullmatch(
        r"adam on cpu: fused is (3\.9|4\.0|4\.1)x faster \(.*\) than single_tensor; "
        r"foreach may be about as fast",
        said,
    )
    assert optimizer({"single_tensor": 1.1e-4, "foreach": 1.05e-4, "fused": 1e-4}) == []
    (said,) = optimizer({"single_tensor": 4e-4, "fused": 1e-4}, foreach="unstable")
    assert said.endswith("than single_tensor; foreach has no time (unstable)")
    assert "the fastest" not in said
    (said,) = optimizer({"single_tensor": 4e-4, "foreach": 1e-4}, fused="unsupported")
    assert "foreach is the fastest, " in said


def test_what_arithmetic_bounds_is_no_share_of_the_bandwidth():
    machine = Machine(noise=0)
    machine.cell(1e-2, benchmark="copy", params="form=in_place;n=33554432", bytes=2.7e8)
    known = {"benchmark": "matmul", "dtype": "float64", "bytes": 24 * 2048**2, "flop": 2 * 2048**3}
    machine.cell(0.3, params="n=2048", **known)
    slow = {"benchmark": "mul", "dtype": "float64", "bytes": 8e8, "flop": 3.3e7}
    machine.cell(0.3, params="n=33554432", **slow)
    assert [said for said in told(machine, "peak") if "of that" in said] == [
        "mul n=33554432 in float64 on cpu reaches 10% of that"
    ]


def test_the_link_to_a_device_is_no_share_of_its_bandwidth():
    machine = Machine(noise=0)
    known = {"device": "cuda", "bytes": 2.7e8}
    machine.cell(1e-4, benchmark="copy", params="form=in_place;n=33554432", **known)
    for benchmark in ("host_to_device", "device_to_host", "neg"):
        machine.cell(1e-2, benchmark=benchmark, params="n=33554432", **known)
    assert [said for said in told(machine, "peak") if "of that" in said] == [
        "neg n=33554432 in float32 on cuda reaches 1% of that"
    ]


def test_the_overhead_is_told_of_the_smallest_call_or_not_at_all():
    machine = Machine(noise=0)
    known = {"benchmark": "add"}
    machine.fault("unstable", "", params="form=out_of_place;n=16", **known)
    for n in (65536, 1048576, 33554432):
        machine.cell(1e-9 * n, params=f"form=out_of_place;n={n}", **known)
    assert told(machine, "overhead") == []


def test_peaks_and_overhead_are_facts_at_the_end():
    machine = Machine(noise=0)
    for n, seconds in ((16, 1e-6), (65536, 1.5e-6), (1048576, 24e-6)):
        machine.cell(seconds, benchmark="add", params=f"form=out_of_place;n={n}", bytes=12 * n)
    machine.cell(1e-2, benchmark="copy", params="form=in_place;n=33554432", bytes=2.7e8)
    machine.cell(1e-1, benchmark="add", params="form=in_place;n=33554432", bytes=4e8)
    machine.cell(1e-3, benchmark="matmul", params="n=512", flop=2.7e8)
    said = told(machine)
    assert "cpu moves 27.0 GB/s in its best copy (form=in_place n=33554432 in float32)" in said
    assert "add form=in_place n=33554432 in float32 on cpu reaches 15% of that" in said
    assert "cpu computes 270 GFLOP/s in its best float32 matmul (n=512)" in said
    (overhead,) = [text for text in said if "small call" in text]
    at = int(re.search(r"at about ([\d,]+) elements", overhead)[1].replace(",", ""))
    assert 65536 < at < 100_000


def test_only_runs_of_one_torch_and_one_number_of_threads_are_replicates():
    machine = Machine(runs=2)
    for torch, threads, factor in (("2.14.0", 4, 40), ("2.15.0", 4, 1), ("2.15.0", 1, 10)):
        for dtype, seconds in (("float32", 1e-3), ("float16", factor * 1e-3)):
            run = len(machine.rows)
            machine.cell(seconds, benchmark="matmul", dtype=dtype, torch=torch, threads=threads)
            for row in machine.rows[run:]:
                row["run_id"] += f"{torch}-{threads}"
    first, second, third = verdict.text(machine.frame()).split("\n\n")
    assert first.startswith("model, 2 runs, torch 2.14.0, 4 threads:\n- float16 on cpu: matmul is ")
    assert re.search(r"(39|40|41)x slower", first)
    assert second == f"model, 2 runs, torch 2.15.0, 4 threads:\n{verdict.NOTHING}"
    assert third.startswith("model, 2 runs, torch 2.15.0, 1 thread:\n")
    assert re.search(r"(9\.\d|10)x slower", third)


def test_a_machine_with_one_torch_and_one_number_of_threads_is_named_as_shortly_as_may_be():
    shown = verdict.text(Machine(runs=2).cell(1e-3).frame())
    assert shown == f"model, 2 runs, torch 2.11.0:\n{verdict.NOTHING}"


def differences(machine):
    return [v for v in rules.of(machine.frame()) if v.topic not in rules.FACTS and v.worth]


@pytest.mark.parametrize("runs", [1, 5])
def test_copies_of_one_machine_give_no_verdict(runs):
    """Every device, dtype and form of these machines is as fast as every other: 40 of them."""
    for seed in range(40):
        machine = Machine(runs=runs, noise=0.02, seed=seed)
        for device in ("cpu", "mps"):
            machine.sweep(device, 1e-3, 1e-5)
            for dtype in ("float32", "float16", "bfloat16"):
                for form in ("in_place", "out_of_place"):
                    params = f"form={form};n=65536"
                    machine.cell(1e-4, benchmark="add", device=device, dtype=dtype, params=params)
        assert differences(machine) == []
        assert verdict.NOTHING in verdict.text(machine.frame())
