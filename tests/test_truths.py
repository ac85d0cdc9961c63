"""Every answer is true of ten modelled machines, whose exact times the model knows."""

import dataclasses
import json
import math
from pathlib import Path
from statistics import geometric_mean

import pandas as pd
import pytest

from bench.compare import benchmarks, cells
from bench.report import answers as report
from bench.verdicts import answers
from bench.verdicts.finding import NOTABLE, Finding
from tests.helpers import machines
from tests.helpers.machines import TRUTHS
from tests.helpers.truths import Machine
from tests.validation.verdicts import claims

ROOT = Path(__file__).parent.parent


class Answers:
    """The answers on a modelled machine, and its exact times."""

    def __init__(self, name):
        self.truth = TRUTHS[name]
        made, self.exact = machines.machine(name)
        self.frame = made.frame()
        self.cells = cells.of(self.frame)
        self.findings = {one.question: one.findings for one in answers.of(self.cells)}
        self.by_name = {(c.device, c.dtype, _name(c)): c for c in self.cells}

    def of(self, topic):
        return [x for several in self.findings.values() for x in several if x.topic == topic]

    def seconds(self, subject):
        """The exact time of a cell."""
        return self.exact[subject.device, subject.dtype, _name(subject)]

    def of_host(self, cell):
        """The exact time of the fastest cell of the CPU that is at least as precise."""
        names = ("float32",) if cell.dtype == "float32" else machines.DTYPES
        hosts = [self.by_name.get(("cpu", name, _name(cell))) for name in names]
        return min((self.seconds(c) for c in hosts if c and c.estimate.likely), default=math.nan)

    def per_item(self, subject):
        return (
            self.seconds(subject)
            / self.by_name[subject.device, subject.dtype, _name(subject)].items
        )

    def holds(self, ratio, truth):
        """Check that an interval holds the truth; all seen, one in 20 may miss it."""
        assert ratio.low <= ratio.value <= ratio.high
        if ratio.significant:
            assert (ratio.value < 1) == (truth < 1)
        slack = math.exp(2 * self.truth.noise)
        assert ratio.low / slack <= truth <= ratio.high * slack


def _name(one):
    params = ";".join(f"{name}={value}" for name, value in one.params.items())
    return f"{one.benchmark} {params}".strip()


@pytest.fixture(scope="module", params=TRUTHS)
def seen(request):
    return Answers(request.param)


def test_what_to_use_is_the_fastest_step(seen):
    (use,) = seen.of("use")
    device, dtypes = seen.truth.use
    assert (use.subject.device, use.subject.dtype in dtypes) == (device, True)
    steps = [c for c in seen.cells if c.benchmark in ("step", "autocast_step") and c.settled]
    assert seen.per_item(use.subject) <= NOTABLE * min(map(seen.per_item, steps))
    if use.ratio:
        seen.holds(use.ratio, seen.per_item(use.subject) / seen.per_item(use.rival))
    assert use.workers in (*seen.truth.workers, "")
    for dtype in use.avoid:
        pair = [seen.exact[device, kind, "step batch=1024"] for kind in (dtype, "float32")]
        assert pair[0] > pair[1]
        assert dtype not in dtypes
    assert not use.compiled or seen.truth.compiled < 1
    assert use.implementation in (seen.truth.implementation, "")


def test_a_group_has_the_mean_of_its_cells(seen):
    for one in (*seen.of("device group"), *seen.of("dtype group")):
        true = {}
        for cell in seen.cells:
            place = (cell.device, cell.dtype, benchmarks.group(cell.family, cell.benchmark))
            if place != (one.subject.device, one.subject.dtype, one.group):
                continue
            device = cell.device if one.topic == "dtype group" else "cpu"
            names = (
                ("float32",)
                if one.topic == "dtype group" or cell.dtype == "float32"
                else machines.DTYPES
            )
            rivals = [seen.by_name.get((device, name, _name(cell))) for name in names]
            known = [c for c in rivals if c and c.estimate.likely]
            if known and cell.estimate.low and cell.estimate.high:
                host = min(known, key=seen.seconds)
                true[_name(cell)] = seen.seconds(cell) / seen.seconds(host)
        if one.ratio:
            mean = geometric_mean([*true.values()])
            if one.advice in ("faster", "slower"):
                assert (mean < 1) == (one.advice == "faster")
            seen.holds(one.ratio, mean)
        for end, better in ((one.best, min), (one.worst, max)):
            if end and not one.exceeded:
                extreme = better(true.values())
                assert end[1].value == pytest.approx(extreme, rel=0.03 + 2 * seen.truth.noise)


def test_devices_are_compared_as_they_are(seen):
    for one in seen.of("device"):
        sizes = {
            float(dict(c.params)[one.param]): seen.seconds(c) / seen.of_host(c)
            for c in seen.cells
            if (c.device, c.dtype, c.benchmark)
            == (one.subject.device, one.subject.dtype, one.subject.benchmark)
            and {**one.subject.params, one.param: c.params[one.param]} == c.params
        }
        if where := one.crossover:
            faster = [s for s, ratio in sorted(sizes.items()) if (ratio < 1) == where.faster_above]
            slower = [s for s in sizes if s not in faster]
            assert max(slower) / 1.2 <= where.size <= 1.2 * min(faster)
            ends = {where.low: not where.faster_above, where.high: where.faster_above}
            assert {size: size in faster for size in ends} == ends
        else:
            way = {"always": "faster", "never": "slower"}.get(one.advice, one.advice)
            worst = max(sizes.values()) if way == "faster" else 1 / min(sizes.values())
            assert worst < 1.1 * NOTABLE
    for one in seen.of("benchmark"):
        for subject, ratio in (one.best, one.worst):
            true = seen.seconds(subject) / seen.of_host(subject)
            assert ratio.value == pytest.approx(true, rel=0.05)


def test_loading_is_advised_as_it_is(seen):
    (one,) = seen.of("loading")
    fastest = min(seen.per_item(c) for c in seen.cells if c.benchmark == "loader" and c.settled)
    assert seen.per_item(one.subject) <= NOTABLE * fastest
    if one.ratio:
        seen.holds(one.ratio, seen.per_item(one.subject) / seen.per_item(one.rival))
    for found in seen.of("bottleneck"):
        true = seen.per_item(found.subject) / seen.per_item(found.rival)
        if found.advice == "unclear":
            assert 1 / 1.5 < true < 1.5
        else:
            assert (true > 1) == (found.advice == "loading")
        if found.rival.device == seen.truth.use[0] and seen.truth.bottleneck:
            assert found.advice == seen.truth.bottleneck


def test_implementations_are_as_they_are(seen):
    for one in (*seen.of("optimizer"), *seen.of("in place"), *seen.of("copy")):
        seen.holds(one.ratio, seen.seconds(one.subject) / seen.seconds(one.rival))


def test_compiling_pays_after_as_many_calls_as_the_model_says(seen):
    found = seen.of("compiled")
    assert {one.subject.device for one in found} <= seen.truth.parts.keys()
    for one in found:
        eager, later = seen.seconds(one.rival), seen.seconds(one.subject)
        assert (one.advice == "pays") == (seen.truth.compiled < 1)
        if one.calls:
            middle, low, high = one.calls
            true = 1 + (seen.truth.compile_s - 2 * eager) / (eager - later)
            assert low <= middle <= high
            assert low / 1.05 <= true <= 1.05 * high


def test_memory_is_compared_where_it_is_known(seen):
    assert {one.subject.device for one in seen.of("memory")} == seen.truth.parts.keys() - {"cpu"}
    for one in seen.of("memory"):
        assert (one.least, one.most) == (pytest.approx(0.5), pytest.approx(0.5))


def test_faults_are_the_ones_there_are(seen):
    assert [(x.advice, x.subject.benchmark) for x in seen.of("fault")] == [("wrong", "einsum")]
    (refused,) = seen.of("unsupported")
    assert list(refused.refused) == ["optimizer_step"]


def test_figures_of_the_machine_are_as_they_are(seen):
    for one in seen.of("bandwidth"):
        copies = [c for c in seen.cells if c.benchmark == "copy" and c.device == one.subject.device]
        true = max(c.bytes / seen.seconds(c) for c in copies)
        assert one.amount == pytest.approx(true, rel=0.05 + 2 * seen.truth.noise)
    for one in seen.of("arithmetic"):
        true = seen.truth.parts[one.subject.device].flops[one.subject.dtype]
        assert one.amount < true * (1.05 + 2 * seen.truth.noise)
    for one in seen.of("overhead"):
        true = seen.exact[one.subject.device, "float32", "add form=out_of_place;n=16"]
        assert one.amount == pytest.approx(true, rel=0.05 + seen.truth.noise)


def test_the_answers_fit_80_columns(seen):
    text = report.text(seen.frame)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\n") < 130


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(20))
def test_a_machine_on_which_nothing_differs_gets_no_advice(seed):
    assert claims(cells.of(machines.equal(seed).frame())) == {}


def one_of(made, topic, question=None):
    found = [
        one for answer in answers.of(cells.of(made.frame()), question) for one in answer.findings
    ]
    return [one for one in found if one.topic == topic]


def test_runs_that_contradict_each_other_give_no_advice():
    """Each of two dtypes is twice as fast as the other in half of the runs."""
    made = Machine(runs=4)
    for batch in (16, 64, 256):
        step = {"family": "training", "benchmark": "step", "items": batch}
        for dtype in ("float32", "bfloat16"):
            made.cell(1e-3 * batch, params=f"batch={batch}", dtype=dtype, **step)
    for number, row in enumerate(made.rows):
        fast = (number % 2 == 0) == (row["dtype"] == "float32")
        for name in ("median_s", "ci_low_s", "ci_high_s"):
            row[name] *= 1 if fast else 2
    (use,) = one_of(made, "use")
    (group,) = one_of(made, "dtype group")
    assert (use.ratio, use.advice) == (None, "default")
    assert (group.advice, group.best, group.worst) == ("unclear", None, None)


def test_cells_that_contradict_each_other_are_named_and_give_no_general_advice():
    """Fused wins for Adam and loses for SGD; mps wins at medium sizes only."""
    made, _ = machines.machine("m1", gaps=False)
    for row in made.rows:
        if row["params"] == "implementation=fused;optimizer=sgd":
            for name in ("median_s", "ci_low_s", "ci_high_s"):
                row[name] *= 100
    (use,) = one_of(made, "use")
    advised = {
        (o.subject.params["optimizer"], o.subject.params["implementation"])
        for o in one_of(made, "optimizer")
    }
    assert use.implementation == ""
    assert ("adam", "fused") in advised
    assert ("sgd", "fused") not in advised
    made = Machine()
    for n, factor in ((16, 5), (256, 0.2), (1024, 5)):
        for device, times in (("cpu", 1), ("mps", factor)):
            made.cell(1e-3 * times, benchmark="matmul", device=device, params=f"n={n}")
    assert one_of(made, "device") == []
    (one,) = one_of(made, "benchmark")
    assert (one.advice, one.faster, one.slower) == ("mixed", 1, 2)
    assert one.best[0].params == {"n": "256"}


def test_machines_are_compared_with_the_first_one():
    """The model says by how much an M1 trains and loads faster than a CPU."""
    (amx, slow), (m1, fast) = (machines.machine(name, gaps=False) for name in ("amx", "m1"))
    both = pd.concat([amx.frame(), m1.frame()], ignore_index=True)
    (answer,) = report._across(both, None)
    made = {(one.topic, one.subject.device): one for one in answer.findings}
    for topic, device in (("machine", "m1 mps"), ("machine loading", "m1 cpu")):
        one = made[topic, device]
        here, there = (
            exact[kind, side.dtype, _name(side)] / float(side.params["batch"])
            for exact, side, kind in (
                (fast, one.subject, device.split()[1]),
                (slow, one.rival, "cpu"),
            )
        )
        if topic == "machine loading":  # an epoch of 256 images each
            here, there = (
                exact[("cpu", "float32", _name(side))]
                for exact, side in ((fast, one.subject), (slow, one.rival))
            )
        assert one.ratio.low <= here / there <= one.ratio.high
        assert one.rival.device == "amx"
    (training,) = [
        one
        for one in answer.findings
        if (one.topic, one.subject.device) == ("device group", "m1 mps") and one.group == "training"
    ]
    names = {name for device, dtype, name in fast if (device, dtype) == ("mps", "float32")}
    kinds = ("step", "forward", "forward_backward", "compiled")
    true = [
        fast["mps", "float32", name] / slow["cpu", "float32", name]
        for name in names
        if name.split()[0] in kinds
    ]
    assert training.ratio.value == pytest.approx(geometric_mean(true), rel=0.03)
    assert report._across(amx.frame(), None) == []
    text = report.text(both)
    assert text.index("Which machine?") < text.index("What should I use here?")


def test_the_json_keeps_to_its_schema():
    jsonschema = pytest.importorskip("jsonschema", reason="an extra of development")
    schema = json.loads((ROOT / "docs" / "verdict.schema.json").read_text(encoding="utf-8"))
    check = jsonschema.Draft202012Validator(schema)
    check.check_schema(schema)
    frames = [machines.machine(name)[0].frame() for name in TRUTHS]
    for frame in (*frames, pd.concat(frames[:3], ignore_index=True)):
        check.validate(json.loads(report.as_json(frame)))
    kinds = [Finding, *Finding.__subclasses__()]
    fields = {one.name for kind in kinds for one in dataclasses.fields(kind)}
    assert schema["$defs"]["finding"]["properties"].keys() == fields - {"worth"} | {"text"}
    assert not check.is_valid({"format": 1, "machines": [{}], "across": []})
