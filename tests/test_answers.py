"""The answers by question are true of modelled machines, and nothing is claimed of noise."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.compare import cells, estimates
from bench.compare.benchmarks import GROUPS, declared
from bench.report import answers as report
from bench.verdicts import answers
from tests.helpers.command import run_bench
from tests.helpers.frames import frame, store
from tests.helpers.truths import BATCHES, Machine

DTYPES = ("float32", "bfloat16", "float16")


def model(factors, devices=None, **machine):
    """A machine whose steps and products take these factors of the time in float32 on the CPU."""
    made = Machine(**machine)
    for device, speed in (devices or {"cpu": 1.0}).items():
        for dtype, factor in factors.items():
            known = {"device": device, "dtype": dtype}
            for batch in BATCHES:
                seconds = speed * factor * (2e-4 + 1e-5 * batch)
                step = {"family": "training", "benchmark": "step", "items": batch}
                made.cell(seconds, params=f"batch={batch}", **step, **known)
            for n in (64, 256):
                seconds = speed * factor * 1e-9 * n**2
                made.cell(seconds, benchmark="matmul", params=f"n={n}", **known)
    return made


def found(machine, question=None):
    """Return the findings on a question, or on all of them."""
    made = answers.of(cells.of(machine.frame()), question)
    return [one for answer in made for one in answer.findings]


#: Factors of bfloat16 and float16, and of mps or cuda, each with the dtype and device to use.
TRUTHS = {
    "equal": ((1, 1), {}, "float32", "cpu"),
    "bf16 cpu": ((0.5, 20), {}, "bfloat16", "cpu"),
    "fp16 cpu": ((1.0, 0.4), {}, "float16", "cpu"),
    "no half": ((8, 30), {}, "float32", "cpu"),
    "slightly": ((0.97, 1.02), {}, "float32", "cpu"),
    "m1": ((1.0, 1.0), {"mps": 0.3}, "float32", "mps"),
    "m1 half": ((1.0, 0.6), {"mps": 0.3}, "float16", "mps"),
    "slow gpu": ((1.0, 1.0), {"mps": 3.0}, "float32", "cpu"),
    "h100": ((0.25, 0.3), {"cuda": 0.01}, "bfloat16", "cuda"),
    "t4": ((5.0, 0.3), {"cuda": 0.05}, "float16", "cuda"),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_every_answer_is_right_on_a_modelled_machine(name):
    (bfloat16, float16), others, dtype, device = TRUTHS[name]
    factors = {"float32": 1.0, "bfloat16": bfloat16, "float16": float16}
    machine = model(factors, {"cpu": 1.0} | others)
    (use,) = found(machine, "use")
    assert (use.subject.dtype, use.subject.device) == (dtype, device)
    for one in found(machine, "dtype"):
        factor = factors[one.subject.dtype]
        expected = "slower" if factor > 1.15 else "faster" if factor < 0.87 else "same"
        assert one.advice == expected
        assert one.ratio.low <= one.ratio.value <= one.ratio.high
        assert one.ratio.value == pytest.approx(factor, rel=0.03)
        assert (one.n, one.total, one.exceeded) == (one.total, one.total, False)
    for one in found(machine, "device"):
        if one.topic == "device group" and one.subject.dtype == "float32":
            assert one.advice == ("slower" if others[one.subject.device] > 1 else "faster")


def test_the_rival_of_a_device_is_the_best_the_cpu_can_do():
    machine = model({"float32": 1.0, "float16": 40.0}, {"cpu": 1.0, "cuda": 0.01})
    half = [one for one in found(machine, "device") if one.topic == "device group"]
    ratios = {one.subject.dtype: one.ratio.value for one in half if one.group == "training"}
    assert ratios["float16"] == pytest.approx(0.4, rel=0.03)  # 0.01 against the CPU's float16


def test_a_cell_that_is_not_settled_takes_part_by_its_bound():
    machine = Machine()
    for dtype, seconds in (("float32", 1e-3), ("float16", 50e-3)):
        machine.cell(seconds, benchmark="matmul", dtype=dtype, params="n=512")
    for row in machine.rows[:5]:
        row |= {"schema_version": 1, "status": "unstable", "reason": "disturbed"}
    (one,) = found(machine, "dtype")
    assert (one.ratio, one.n, one.total, one.exceeded) == (None, 0, 1, True)
    assert one.worst[1].high == float("inf")
    assert 40 < one.worst[1].low < 50
    assert "at least 4" in report.text(machine.frame(), "dtype")
    for row in machine.rows[5:]:
        row |= {"schema_version": 1, "status": "unstable", "reason": "disturbed"}
    (one,) = found(machine, "dtype")
    assert (one.advice, one.best, one.worst) == ("unclear", None, None)


def test_of_a_step_that_only_has_an_upper_bound_the_least_gain_is_known():
    machine = Machine()
    step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
    machine.cell(1e-1, **step).cell(1e-3, **step, dtype="bfloat16")
    for row in machine.rows:
        row |= {"schema_version": 1}
        row |= {"status": "unstable", "reason": "disturbed"} if row.get("dtype") else {}
    assert re.search(
        r"bfloat16, batch 64: at least \d+x faster", report.text(machine.frame(), "use")
    )


def test_machines_are_compared_though_the_best_step_is_not_settled():
    frames = []
    for name in "ab":
        machine = Machine(name)
        step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
        wide = {"status": "unstable", "ci_low_s": 5e-4, "ci_high_s": 2e-3}
        machine.cell(1e-1, **step).cell(1e-3, **step | wide, dtype="bfloat16")
        frames.append(machine.frame())
    text = " ".join(report.text(pd.concat(frames, ignore_index=True), "machine").split())
    assert "b cpu trains best with bfloat16 batch=64, about as fast as a" in text


def test_the_machine_that_trains_best_with_autocast_says_so():
    frames = []
    for name in "ab":
        step = {"family": "training", "items": 64, "params": "batch=64"}
        machine = Machine(name).cell(1e-1, **step, benchmark="step")
        machine.cell(1e-2, **step, benchmark="autocast_step", dtype="bfloat16")
        frames.append(machine.frame())
    text = " ".join(report.text(pd.concat(frames, ignore_index=True), "machine").split())
    assert "b cpu trains best with autocast bfloat16 batch=64" in text


def test_one_run_needs_an_allowance_for_other_processes_and_several_of_schema_2_none():
    known = {"ci_low_s": 0.99e-3, "ci_high_s": 1.01e-3}
    old, new = (
        frame({"schema_version": 1} | known).assign(schema_version=version) for version in (1, 2)
    )
    (a,), (b,) = (estimates.by_group(f, ["benchmark"], []).values() for f in (old, new))
    assert estimates.ratio(a, a).high > 1.14
    assert estimates.ratio(b, b).high > 1.14
    several = pd.concat([new, new.assign(run_id="b")])
    (b,) = estimates.by_group(several, ["benchmark"], []).values()
    assert estimates.ratio(b, b).high < 1.02
    wide = new.assign(status="unstable", ci_low_s=5e-4)
    (c,) = estimates.by_group(wide, ["benchmark"], []).values()
    assert (c.status, c.medians, c.low, c.high) == ("unstable", (), 5e-4, 1.01e-3)


def test_a_single_call_is_not_judged():
    machine = Machine(runs=1)
    single = {"rounds": 1, "iterations": 1, "ci_low_s": None, "ci_high_s": None}
    for dtype, seconds in (("float32", 1.0), ("float16", 1e-3)):
        machine.cell(seconds, benchmark="add", dtype=dtype, **single)
    assert found(machine, "dtype") == []
    text = " ".join(report.text(machine.frame()).split())
    assert text.startswith(f"{machine.rows[0]['machine']}, 1 run")
    assert "; no cell has a time; 2 called once: answer checked, not timed What" in text


def test_noise_is_reported_first_where_few_cells_are_settled():
    machine = Machine(runs=1)
    wide = {"status": "unstable", "ci_low_s": 1e-4, "ci_high_s": 1e-2}
    for n in range(10):
        machine.cell(1e-3, params=f"n={n}", **(wide if n else {}))
    head = " ".join(report.text(machine.frame()).partition("\n\n")[0].split())
    reported = "from 1 of 10 cells; noise keeps the others from being settled: run bench doctor"
    assert head.endswith(reported)


def test_top_is_the_number_of_findings_of_each_kind():
    machine = Machine()
    for optimizer in ("sgd", "adam", "adamw"):
        for name, seconds in (("fused", 1e-4), ("foreach", 3e-4)):
            params = f"implementation={name};optimizer={optimizer}"
            machine.cell(seconds, family="training", benchmark="optimizer_step", params=params)
    lines = report.text(machine.frame(), "implementations", top=1).splitlines()
    assert sum("fused is the fastest" in line for line in lines) == 1
    assert lines[-1] == "- 2 more findings: bench verdict --question implementations --all"


@pytest.mark.parametrize(
    ("question", "known", "times"),
    [
        (
            "use",
            {"family": "training", "benchmark": "step", "params": "batch=64"},
            "step in float32",
        ),
        ("loading", {"benchmark": "loader", "params": "batch=8;workers=0"}, "DataLoader"),
    ],
)
def test_what_was_not_asked_for_is_not_called_badly_timed(question, known, times):
    known = {"family": question} | known
    machine = Machine(runs=1).cell(1e-3, benchmark="add")
    family = known["family"]
    assert f"in these results: bench run --family {family} times" in report.text(
        machine.frame(), question
    )
    machine.cell(1e-3, **known, items=8, status="error")
    assert f"{times} has a usable time" in report.text(machine.frame(), question)


@pytest.mark.parametrize("version", [1, 2])
def test_a_slow_cell_with_one_round_is_timed(version):
    machine = Machine(runs=1)
    slow = {"schema_version": version, "rounds": 1, "iterations": 1}
    slow |= {"ci_low_s": None, "ci_high_s": None} if version == 1 else {}
    machine.cell(1.0, benchmark="add", **slow)
    machine.cell(1e-6, benchmark="neg", **slow | {"rounds": 6})
    assert answers.basis(cells.of(machine.frame())).not_timed == 0


def test_the_gain_of_the_dtype_is_named_apart_from_that_of_the_batch():
    machine = model({"float32": 1, "bfloat16": 0.5}, noise=0)
    (made,) = found(machine, "use")
    assert made.of_dtype.value == pytest.approx(0.5)
    assert made.of_dtype.value * made.of_batch.value == pytest.approx(made.ratio.value)
    text = " ".join(report.text(machine.frame(), "use").split())
    assert re.search(r"bfloat16 alone is [\d.]+x faster \(.*\), batch \d+ alone 1.\d\dx", text)


@pytest.mark.parametrize(
    ("alone", "two", "four", "words"),
    [
        (0.4, 0.1, 0.3, "2 DataLoader workers"),
        (0.4, 0.1, 0.101, "2 or 4 DataLoader workers"),
        (0.1, 0.2, 0.4, "no DataLoader workers"),
        (0.105, 0.1, 0.4, "no DataLoader workers"),
    ],
)
def test_the_best_optimizers_and_workers_are_part_of_the_recommendation(alone, two, four, words):
    machine = model({"float32": 1, "bfloat16": 0.5}, noise=0)
    for name, seconds in (("fused", 1e-4), ("foreach", 3e-4)):
        params = f"implementation={name};optimizer=adam"
        machine.cell(seconds, family="training", benchmark="optimizer_step", params=params)
    for workers, seconds in ((0, alone), (2, two), (4, four)):
        params = f"batch=32;workers={workers}"
        machine.cell(seconds, family="loading", benchmark="loader", items=256, params=params)
    assert f"Also use fused optimizers and {words}" in " ".join(
        report.text(machine.frame(), "use").split()
    )


@pytest.mark.parametrize(
    ("settled", "advice"), [({}, "unknown"), ({"dtype": "bfloat16"}, "among the best")]
)
def test_a_step_that_is_not_settled_keeps_the_answer_open(settled, advice):
    """It may be ten times as fast as the others."""
    machine = Machine()
    step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
    machine.cell(1e-3, **step)
    if settled:
        machine.cell(0.5e-3, **step, **settled)
    wide = {"status": "unstable", "ci_low_s": 1e-4, "ci_high_s": 1e-2}
    machine.cell(1e-3, **step, **wide, dtype="float16")
    (use,) = found(machine, "use")
    assert use.advice == advice


@pytest.mark.parametrize(
    ("topic", "known"),
    [
        ("bandwidth", {"benchmark": "copy", "bytes": 2.7e8}),
        ("arithmetic", {"benchmark": "matmul", "flop": 2.7e8}),
    ],
)
def test_a_peak_is_a_bound_while_a_rival_is_not_settled(topic, known):
    machine = Machine(noise=0).cell(1e-2, params="n=512", **known)
    slower = {"status": "unstable", "ci_low_s": 2e-2, "ci_high_s": 9e-2}
    machine.cell(3e-2, params="n=64", **known | slower)
    (sure,) = (one for one in found(machine, "quality") if one.topic == topic)
    assert sure.advice == ""
    machine.cell(3e-2, params="n=256", **known | slower | {"ci_low_s": 5e-3})
    (bound,) = (one for one in found(machine, "quality") if one.topic == topic)
    assert bound.advice == "at least"
    assert "at least 27" in report.sentence(bound)


def test_the_groups_of_a_dtype_are_together_unless_all_are_asked_for():
    machine = model({"float32": 1, "bfloat16": 0.5, "float16": 20}, noise=0)
    short = report.text(machine.frame(), "dtype")
    assert short.count("- bfloat16 on cpu") == short.count("- float16 on cpu") == 1
    text = " ".join(short.split())
    assert "Faster: training 2.0x (2.0 to 2.0), matrix products 2.0x" in text
    assert "Slower: training 20x" in text
    assert text.endswith("in detail: bench verdict --question dtype --all")
    whole = report.text(machine.frame(), "dtype", top=None)
    assert whole.count("- bfloat16 on cpu: ") == 2


def test_every_benchmark_of_the_suite_has_a_group():
    suite = Path(bench.__file__).parent / "suite"
    names = {
        (path.parent.name, line.split("(")[0].removeprefix("def bench_"))
        for path in suite.glob("*/bench_*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("def bench_")
    }
    assert names == declared().keys()
    assert {benchmark.group for benchmark in declared().values()} <= set(GROUPS)


def test_blocks_fit_the_width_and_the_options_choose_among_them(tmp_path):
    path = store(tmp_path / "a.csv", *model({"float32": 1, "bfloat16": 0.5}).rows)

    def run(*words):
        done = run_bench(*words, path)
        assert done.exit_code == 0, done.output
        return done.output

    text = run("verdict")
    assert max(map(len, text.splitlines())) <= 80
    titles = [report.TITLES[question] for question in answers.QUESTIONS]
    assert [title for title in report.TITLES.values() if title in text] == titles
    assert "Which device?" not in run("verdict", "--question", "dtype")
    made = json.loads(run("verdict", "--format", "json"))
    assert list(made["machines"][0]["answers"]) == list(answers.QUESTIONS)
    assert run("verdict", "--format", "markdown", "--all").startswith("**model, 5 runs")
    assert len(run("card").splitlines()) <= 15


@pytest.mark.integration
def test_the_best_setting_is_there_for_programs_without_torch(tmp_path):
    path = store(tmp_path / "a.csv", *model({"float32": 1, "bfloat16": 0.5}).rows)
    chosen = bench.best(path)
    assert (chosen["device"], chosen["dtype"], chosen["workers"]) == ("cpu", "bfloat16", None)
    code = f"import sys; from bench import best; best({path!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert bench.best(store(tmp_path / "b.csv", {"benchmark": "cat"})) is None


def test_faults_of_one_reason_are_one_line():
    machine = Machine().cell(1e-3, benchmark="neg", device="mps")
    for name in ("add", "bmm", "cat", "dot", "eye"):
        machine.fault("wrong", f"off by 0.{len(machine.rows)}", benchmark=name, device="mps")
    machine.fault("oom", "full", benchmark="cat", device="mps", params="n=4")
    text = " ".join(report.text(machine.frame(), "faults").split())
    assert (
        "5 of 7 cells on mps: wrong: for example off by 0.5 (add, bmm, cat, dot and 1 more, "
        "in float32) - cat n=4 in float32 on mps: oom: full - in detail"
    ) in text
    assert report.text(machine.frame(), "faults", top=None).count("wrong") == 5


def test_what_is_answered_comes_first():
    machine = Machine().fault("wrong", "off by 3", benchmark="add")
    titles = [line for line in report.text(machine.frame()).splitlines() if line.endswith("?")]
    assert titles[:2] == ["What is broken?", "What should I use here?"]


def test_a_card_of_unknown_hardware_begins_with_what_it_rests_on():
    known = {"cpu": "", "os": "", "python": ""}
    lines = report.card(Machine().cell(1e-3, **known).frame()).splitlines()
    assert lines[2] == "from 1 of 1 cells"


def test_what_to_use_names_where_no_training_step_works():
    """The CPU is best; mps fails in float16 and refuses bfloat16, an npu is wrong everywhere."""
    machine = Machine().sweep("cpu", 1e-3, 1e-5).sweep("mps", 1e-1, 1e-4)
    step = {"family": "training", "benchmark": "step", "params": "batch=64"}
    for device, dtype, status in (
        *(("mps", "float16", "error"), ("mps", "bfloat16", "unsupported")),
        *(("npu", "float16", "wrong"), ("npu", "float32", "wrong")),
    ):
        machine.fault(status, "x", device=device, dtype=dtype, **step)
    text = " ".join(report.text(machine.frame(), "use").split())
    assert "train with cpu, float32" in text
    for words in (
        "fails in float16 on mps",
        "is unsupported in bfloat16 on mps",
        "is wrong on npu",
    ):
        assert f"Each training step {words}. " in text


def test_the_part_of_the_batch_names_the_device_that_it_changes():
    machine = Machine().sweep("cpu", 1e-3, 1e-5).sweep("mps", 1e-1, 1e-4)
    for row in Machine().sweep("cpu", 5e-4, 5e-6).rows:
        machine.rows.append(row | {"dtype": "bfloat16"})
    text = " ".join(report.text(machine.frame(), "use").split())
    assert re.search(r"bfloat16 alone is 2\.0x faster .*, batch \d+ on cpu alone", text)
