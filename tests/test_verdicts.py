"""Rules find what is true of machines whose truth is known, and nothing where nothing is true."""

import ast
from pathlib import Path

import pytest

from bench.compare import cells
from bench.report import gate_outcome, sentences
from bench.verdicts import answers, named
from tests.helpers.truths import Machine, factor, findings, one

ROOT = Path(__file__).parent.parent / "bench"
STEP = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}


def test_what_is_wrong_comes_first():
    machine = Machine().crossing(96)
    machine.fault("wrong", "off by 0.3", benchmark="linear", device="mps", params="n=4")
    machine.fault("unsupported", "no float64", benchmark="linear", device="mps", dtype="float64")
    (answer,) = answers.of(cells.of(machine.frame()), "faults")
    first, *_, last = answer.findings
    assert (first.topic, first.advice, first.reason) == ("fault", "wrong", "off by 0.3")
    assert (last.topic, last.refused) == ("unsupported", {"linear": {}})


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
    made = one(machine, "unsupported")
    cells = made.refused.pop("bmm")
    assert [dict(cell) for cell in cells] == [{"m": "1", "n": "16"}, {"m": "2", "n": "256"}]
    assert made.refused == {
        "optimizer_step": {"implementation": ("fused",), "optimizer": ("rmsprop",)},
        "lambda": {"start": ("forkserver", "spawn")},
        "to_numpy": {},
    }
    assert (made.dtypes, made.reason) == (("float32",), "no such")


def test_what_is_refused_for_one_reason_is_one_finding():
    machine = Machine()
    for dtype in ("float32", "bfloat16"):
        for n in (16, 256):
            known = {"benchmark": "bmm", "dtype": dtype, "params": f"n={n}"}
            machine.fault("unsupported", "too large" if n == 256 else "no such", **known)
    machine.fault("unsupported", "no such", benchmark="sum", dtype="bfloat16")
    made = {(one.reason, one.dtypes): dict(one.refused) for one in findings(machine, "unsupported")}
    assert made == {
        ("no such", ("float32",)): {"bmm": {"n": ("16",)}},
        ("no such", ("bfloat16",)): {"bmm": {"n": ("16",)}, "sum": {}},
        ("too large", ("float32", "bfloat16")): {"bmm": {"n": ("256",)}},
    }


def test_an_answer_that_is_wrong_in_one_run_is_wrong():
    machine = Machine().cell(1e-3, benchmark="linear")
    machine.rows[0] |= {"status": "wrong", "reason": "off by 0.3"}
    assert [made.advice for made in findings(machine)] == ["wrong"]


def test_what_fails_in_some_runs_is_found_besides_its_time():
    machine = Machine()
    for benchmark in ("linear", "conv2d", "bmm"):
        machine.cell(1e-3, benchmark=benchmark, params="n=4")
    for row in (machine.rows[0], machine.rows[1]):
        row |= {"status": "oom", "reason": "out of memory", "median_s": None}
    machine.rows[5] |= {"status": "unstable", "median_s": None}
    (made,) = findings(machine)
    assert (made.topic, made.advice, made.subject.benchmark) == ("fault", "ok", "linear")


def test_what_could_not_be_timed_is_no_absence_of_a_difference():
    machine = Machine().cell(1e-3, benchmark="neg").fault("unstable", "", benchmark="abs")
    machine.fault("unsupported", "no such", benchmark="sum")
    known = {"status": "unstable", "slowdown": 1.5, "stolen": 0.001}
    made = one(machine.cell(1e-3, benchmark="add", **known), "unstable")
    assert (made.n, made.total, made.stolen, made.slowed) == (2, 3, 0, 1)


def test_in_place_and_copies():
    machine = Machine()
    for form, seconds in (("in_place", 8e-3), ("out_of_place", 4e-2)):
        machine.cell(seconds, benchmark="add", params=f"form={form};n=33554432", bytes=4e8)
    machine.cell(6e-4, benchmark="tensor_from_array", params="n=4194304")
    machine.cell(6e-7, benchmark="from_numpy", params="n=4194304")
    made = one(machine, "in place")
    assert (made.subject.benchmark, made.advice) == ("add", "use")
    assert made.ratio.value == pytest.approx(0.2, rel=0.03)
    made = one(machine, "copy")
    assert (made.amount, made.rival_amount) == (
        pytest.approx(6e-4, rel=0.02),
        pytest.approx(6e-7, rel=0.02),
    )


def optimizers(times, **faults):
    """What is found of implementations of Adam that take these seconds, or have this status."""
    machine = Machine()
    known = {"family": "training", "benchmark": "optimizer_step"}
    for name, seconds in times.items():
        machine.cell(seconds, params=f"implementation={name};optimizer=adam", **known)
    for name, status in faults.items():
        machine.fault(status, "x", params=f"implementation={name};optimizer=adam", **known)
    return findings(machine, "optimizer")


def test_the_fastest_is_faster_than_every_other():
    def implementation(subject):
        return subject.params["implementation"]

    (made,) = optimizers({"single_tensor": 8e-4, "foreach": 4e-4, "fused": 1e-4})
    assert (made.advice, implementation(made.subject)) == ("fastest", "fused")
    assert implementation(made.rival) == "single_tensor"
    assert factor(made.ratio) == pytest.approx(8, rel=0.03)
    (made,) = optimizers({"single_tensor": 4e-4, "foreach": 1.05e-4, "fused": 1e-4})
    assert (made.advice, [*map(implementation, made.alike)]) == ("faster", ["foreach"])
    assert optimizers({"single_tensor": 1.1e-4, "foreach": 1.05e-4, "fused": 1e-4}) == []
    (made,) = optimizers({"single_tensor": 4e-4, "fused": 1e-4}, foreach="unstable")
    assert (made.advice, made.unmeasured) == ("faster", {"foreach": "unstable"})
    (made,) = optimizers({"single_tensor": 4e-4, "foreach": 1e-4}, fused="unsupported")
    assert (made.advice, made.unmeasured) == ("fastest", {})


def below(machine):
    """The benchmarks that are far below the bandwidth, with their shares of it."""
    return {
        made.subject.benchmark: made.amount / made.rival_amount
        for made in findings(machine, "far below")
    }


def test_what_arithmetic_bounds_is_no_share_of_the_bandwidth():
    machine = Machine(noise=0)
    machine.cell(1e-2, benchmark="copy", params="form=in_place;n=33554432", bytes=2.7e8)
    known = {"benchmark": "matmul", "dtype": "float64", "bytes": 24 * 2048**2, "flop": 2 * 2048**3}
    machine.cell(0.3, params="n=2048", **known)
    slow = {"benchmark": "mul", "dtype": "float64", "bytes": 8e8, "flop": 3.3e7}
    machine.cell(0.3, params="n=33554432", **slow)
    assert below(machine) == {"mul": pytest.approx(0.099, rel=0.01)}


def test_the_link_to_a_device_is_no_share_of_its_bandwidth():
    machine = Machine(noise=0)
    known = {"device": "cuda", "bytes": 2.7e8}
    machine.cell(1e-4, benchmark="copy", params="form=in_place;n=33554432", **known)
    for benchmark in ("host_to_device", "device_to_host", "neg"):
        machine.cell(1e-2, benchmark=benchmark, params="n=33554432", **known)
    assert below(machine) == {"neg": pytest.approx(0.01)}


def test_peaks_and_overhead_are_facts():
    machine = Machine(noise=0)
    for n, seconds in ((16, 1e-6), (65536, 1.5e-6), (1048576, 24e-6)):
        machine.cell(seconds, benchmark="add", params=f"form=out_of_place;n={n}", bytes=12 * n)
    machine.cell(1e-2, benchmark="copy", params="form=in_place;n=33554432", bytes=2.7e8)
    machine.cell(1e-1, benchmark="add", params="form=in_place;n=33554432", bytes=4e8)
    machine.cell(1e-3, benchmark="matmul", params="n=512", flop=2.7e8)
    facts = {made.topic: made for made in findings(machine)}
    copy, flops = facts["bandwidth"], facts["arithmetic"]
    assert (copy.amount, flops.amount) == (pytest.approx(2.7e10), pytest.approx(2.7e11))
    assert below(machine) == {"add": pytest.approx(0.148, rel=0.01)}
    overhead = facts["overhead"]
    assert overhead.amount == pytest.approx(1e-6)
    assert 65536 < overhead.negligible_from < 100_000


def test_what_takes_longer_to_launch_than_to_run_is_counted():
    machine = Machine(noise=0)
    for n, device_s in ((1, 1e-6), (2, 2e-6), (3, 9e-5)):
        known = {"device": "cuda", "dispatch_s": 5e-6, "device_s": device_s}
        machine.cell(1e-5 + device_s, params=f"n={n}", **known)
    made = one(machine, "launch")
    assert (made.subject.device, made.n, made.total, made.amount) == ("cuda", 2, 3, 5e-6)
    # Without a clock of the device: 1 us of the 6 us is left.
    machine = Machine(noise=0).cell(6e-6, device="mps", dispatch_s=5e-6)
    assert one(machine, "launch").n == 1
    assert findings(Machine().cell(1e-3), "launch") == []


def unsettled(machine, seconds, **columns):
    """A cell whose time is known within a factor of two."""
    known = {"ci_low_s": seconds * 0.7, "ci_high_s": seconds * 1.4}
    return machine.cell(seconds, status="unstable", **known, **columns)


def test_noise_does_not_choose_the_cells_of_a_mean():
    """The product that float16 wins is not settled; the three that it loses are."""
    for add in (Machine.cell, unsettled):
        machine = Machine(runs=1)
        for n, half in ((64, 2e-3), (256, 2e-3), (512, 2e-3), (1024, 1e-4)):
            known = {"benchmark": "matmul", "params": f"n={n}"}
            machine.cell(1e-3, **known)
            (add if n == 1024 else Machine.cell)(machine, half, **known, dtype="float16")
        made = one(machine, "dtype group")
        assert made.ratio.value == pytest.approx((2**3 * 0.1) ** 0.25, rel=0.05)
        assert (made.n, made.total, made.exceeded) == (4, 4, add is unsettled)


def test_a_gain_larger_than_the_noise_needs_no_settled_step():
    machine = unsettled(Machine(runs=1), 1e-2, **STEP)
    unsettled(machine, 1e-3, **STEP, dtype="bfloat16")
    made = one(machine, "use")
    assert (made.subject.dtype, made.n, made.amount) == ("bfloat16", 0, None)
    assert made.ratio.high < 0.4
    assert "batch 64: 10x faster" in sentences.sentence(made)


def test_without_an_answer_it_still_names_what_to_avoid():
    machine = Machine(runs=1)
    for batch in (16, 64, 256):
        step = STEP | {"params": f"batch={batch}"}
        for dtype, seconds in (("float32", 1e-3), ("bfloat16", 0.9e-3), ("float16", 1e-2)):
            unsettled(machine, seconds, **step, dtype=dtype)
    text = sentences.sentence(one(machine, "use"))
    assert text.startswith("no answer yet")
    assert "Avoid float16: training is 10x slower" in text
    assert "bfloat16: training" not in text


def test_the_fastest_need_not_be_settled():
    machine = Machine(runs=1)
    known = {"family": "training", "benchmark": "optimizer_step"}
    for add, name, seconds in ((unsettled, "fused", 1e-4), (Machine.cell, "foreach", 4e-4)):
        add(machine, seconds, params=f"implementation={name};optimizer=adam", **known)
    made = one(machine, "optimizer")
    assert (made.subject.params["implementation"], made.advice) == ("fused", "fastest")


def test_first_calls_beside_noise_say_nothing():
    machine = Machine(runs=1).cell(1e-3, first_call_s=1e-2)
    for n in range(2):
        unsettled(machine, 1e-3, first_call_s=1e-1, params=f"n={n}")
    assert not findings(machine, "first call")


def test_first_calls_of_a_disturbed_run_have_an_upper_end_only():
    machine = Machine(runs=1)
    for n in range(8):
        machine.cell(1e-3, params=f"n={n}", first_call_s=3e-3)
    assert one(machine, "first call").advice == ""
    unsettled(machine, 1e-3, first_call_s=3e-3, params="n=9")
    made = one(machine, "first call")
    assert (made.advice, made.ratio.low) == ("at most", 0)
    assert (
        "the first call takes at most 3.0 times as long as a later one (median"
        in sentences.sentence(made)
    )


def test_the_first_call_is_compared_with_later_ones():
    machine = Machine(noise=0)
    for n in range(1, 8):
        machine.cell(1e-3, params=f"n={n}", first_call_s=n * 1e-3)
    made = one(machine, "first call")
    assert (made.subject.params, made.amount, made.n) == ({"n": "7"}, pytest.approx(7e-3), 7)
    assert made.ratio.value == pytest.approx(4)
    assert findings(Machine().cell(1e-3, first_call_s=1.0), "first call") == []


def test_every_topic_of_a_rule_and_every_code_of_the_gate_has_words():
    topics, codes = set(), set()
    for path in (*(ROOT / "verdicts").glob("*.py"), *(ROOT / "gate").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                words = {keyword.arg: keyword.value for keyword in node.keywords}
                if isinstance(words.get("topic"), ast.Constant):
                    topics.add(words["topic"].value)
                if getattr(node.func, "id", "") == "reason" and isinstance(
                    node.args[0], ast.Constant
                ):
                    codes.add(node.args[0].value)
    assert topics == sentences.WORDS.keys()
    assert codes | {"status of both", "status of baseline"} == gate_outcome.WORDS.keys()


def test_every_benchmark_that_a_rule_names_is_in_the_suite():
    suite = {}
    for path in (ROOT / "suite").rglob("bench_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("bench_"):
                params = {argument.arg for argument in node.args.args} - {"cell"}
                suite[path.parent.name, node.name.removeprefix("bench_")] = params
    every = [each for each in vars(named).values() if isinstance(each, named.Named)]
    for each in (*every, *named.CROSSING):
        assert set(each.params) <= suite[each[:2]], each
    # No rule and no picture names one in another way.
    names = {benchmark for _, benchmark in suite}
    for path in (*(ROOT / "verdicts").glob("*.py"), *(ROOT / "report").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not names & texts, (path, names & texts)
