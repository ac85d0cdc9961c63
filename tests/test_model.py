"""A model of the user: its operators, its checks, the errors of `--model`, and the table."""

import re
import sys
from pathlib import Path

import pytest
import torch

from bench.measure import devices, refusal, rounds
from bench.measure.answer import WrongAnswer
from bench.measure.cell import Cell
from bench.records import reader
from bench.report import operators as report
from bench.suite.model import bench_model, named
from bench.suite.model.operators import operators
from tests.helpers.command import run_bench
from tests.helpers.frames import frame

CODE = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(3)])
        self.conv = torch.nn.Conv1d(1, 2, 3, stride=2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu_()
        return self.conv(x.unsqueeze(1)).flatten(1)


class Branching(torch.nn.Module):
    def forward(self, x):
        return x + 1 if float(x.sum()) > 0 else x - 1


torch.manual_seed(1)
net = Net()


def with_inputs():
    return Net(), torch.randn(4, 8)
"""


@pytest.fixture
def user_model(tmp_path, monkeypatch):
    """The module of a user, and no model of an earlier test."""
    (tmp_path / "usermodel.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "usermodel", raising=False)
    monkeypatch.setattr(named, "CURRENT", [])
    return tmp_path


def cell(dtype=torch.float32):
    return Cell(devices.find("cpu"), dtype, rounds.Plan(1, 0, 0))


def test_operators_are_found_once_with_their_uses_and_views_are_left_out(user_model):
    named.load("usermodel:with_inputs", [])
    found = {(one.name, one.shapes): (one.uses, one.terms) for one in named.CURRENT[0].operators}
    assert found == {
        ("linear", "4x8_8x8_8"): (3, 8),
        ("relu", "4x8"): (3, 1),
        ("conv1d", "4x1x8_2x1x3_2"): (1, 3),
    }


def test_calls_that_differ_in_more_than_shapes_are_operators_of_their_own():
    class Twice(torch.nn.Module):
        def forward(self, x):
            return torch.add(x, x, alpha=2) + torch.add(x, x, alpha=3)

    found = operators(Twice(), (torch.ones(3),))
    assert [one.name for one in found] == ["add", "add-2", "add-3"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_right_passes_and_operators_are_accepted_and_wrong_ones_are_not(
    user_model, monkeypatch, dtype
):
    named.load("usermodel:net", ["4x8"])
    bench_model.bench_forward(cell(dtype), "net")
    bench_model.bench_forward_backward(cell(dtype), "net")
    for one in named.CURRENT[0].operators:
        bench_model.bench_operator(cell(dtype), "net", one.name, one.shapes, one.uses)
    right = torch.nn.Linear.forward
    first = []

    def wrong(self, x):
        first.append(self)
        scale = 2 if x.dtype != torch.float64 else 1
        return right(self, x) * scale

    monkeypatch.setattr(torch.nn.Linear, "forward", wrong)
    for body in (bench_model.bench_forward, bench_model.bench_forward_backward):
        with pytest.raises(WrongAnswer, match="off by"):
            body(cell(dtype), "net")
    assert first


def test_a_model_without_parameters_has_no_backward_pass(user_model):
    named.load("torch.nn:ReLU", ["4x8"])
    with pytest.raises(RuntimeError, match="no parameters to train") as raised:
        bench_model.bench_forward_backward(cell(torch.float32), "ReLU")
    assert refusal.classify(raised.value)[0] == "unsupported"


def test_an_exact_pass_has_a_finite_tolerance():
    """As that of a model that only selects; a row must hold it."""
    x = torch.rand(4)
    seen = bench_model.agrees(torch.clone, torch.float32, 1e-6)(x.clone(), x)
    assert (seen.fault, seen.rel_error, seen.tolerance) == ("", 0, 1e-6)


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("nosuch:x", [], "cannot import 'nosuch:x' and call it: ModuleNotFoundError"),
        ("math:sqrt", [], "cannot import 'math:sqrt' and call it: TypeError"),
        ("builtins:dict", [], "gives a dict, not a torch.nn.Module"),
        ("usermodel:net", [], "has no inputs: give their shapes, such as --input"),
        ("usermodel:net", ["4x"], "'4x' is no input; write a shape"),
        ("usermodel:net", ["4:float99"], "'4:float99' is no input"),
        ("usermodel:net", ["4x9"], "does not take these inputs: RuntimeError"),
    ],
)
def test_what_is_wrong_with_a_model_is_one_line(user_model, name, shapes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        named.load(name, shapes)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_traced_is_timed_as_a_whole_and_says_why(user_model):
    named.load("usermodel:Branching", ["3"])
    known = named.CURRENT[0]
    assert known.operators == []
    made = cell()
    bench_model.bench_forward(made, "Branching")
    assert made.result.notes == [known.fault]
    assert known.fault.startswith("its operators cannot be timed one by one: ")


def test_the_table_shows_the_uses_of_an_operator_and_its_share():
    known = {"family": "model", "ci_low_s": 1e-4, "ci_high_s": 1.1e-4}
    whole = {"benchmark": "forward", "params": "model=net", "median_s": 1e-3}
    linear = {"params": "model=net;operator=linear;shapes=4x8_8x8;uses=3", "median_s": 2e-4}
    relu = {"params": "model=net;operator=relu;shapes=4x8;uses=1", "median_s": 2e-4}
    rough = {**linear, "dtype": "bfloat16", "median_s": 1e-4, "status": "unstable"}
    rows = [known | {"benchmark": "operator"} | one for one in (whole, linear, relu, rough)]
    lines = [line.split() for line in report.text(frame(*rows)).splitlines()]
    assert ["net:", "forward", "1.00", "ms"] in lines
    assert ["linear", "4x8", "8x8", "x3", "600", "us", "75%", "~300", "us", "100%"] in lines
    assert ["relu", "4x8", "200", "us", "25%"] in lines
    assert report.text(frame({})) == ""


def test_a_run_of_a_model_ends_with_what_went_wrong():
    rows = frame({"family": "model", "benchmark": "forward", "status": "error", "reason": "boom"})
    shown = report.summary(rows, Path("a.csv"))
    assert shown.startswith("1 cell: 1 error\nerror: model forward cpu float32: boom\n\n1 row of")


def test_operators_that_take_equally_long_are_in_the_order_of_the_file():
    """The order of a set is another one in each process."""
    known = {"family": "model", "benchmark": "operator", "ci_low_s": 1e-4, "ci_high_s": 1.1e-4}
    names = [f"op{n}" for n in range(9)]
    rows = [known | {"params": f"model=net;operator={n};shapes=4;uses=1"} for n in names]
    lines = [line.split()[:1] for line in report.text(frame(*rows)).splitlines()]
    assert [line[0] for line in lines if line and line[0] in names] == names


@pytest.mark.integration
def test_the_command_times_a_model_and_its_operators(user_model, monkeypatch):
    monkeypatch.chdir(user_model)
    words = ["model", "usermodel:with_inputs", "--device=cpu", "--dtype=bfloat16"]
    done = run_bench(*words, "--profile=smoke", "--output=a.csv")
    assert done.exit_code == 0, done.output
    found = reader.read(user_model / "a.csv")
    assert set(found.family) == {"model"}
    assert set(found.status) == {"ok"}
    assert len(found) == 2 + 3
    done = run_bench("model", "usermodel:nosuch")
    assert (done.exit_code, "cannot import" in done.output) == (2, True)
    done = run_bench("run", "--family=model")
    assert (done.exit_code, "bench model MODULE:NAME" in done.output) == (2, True)
