"""`bench tune training` finds, times and proves the settings of a training."""

import contextlib
import functools
import itertools
import json
import random
import shutil

import pytest
import torch

from bench.measure import devices
from bench.suite.training.models import NeuralNetwork
from bench.tune import proof, search, training
from tests.helpers.command import run_bench


class Trainer:
    """Trainings on a virtual clock: a step costs, and a larger batch needs as many steps."""

    def __init__(self):
        self.now, self.random = 0.0, random.Random(3)

    def seconds(self, setting):
        cost = {"float32": 1.0, "bfloat16": 0.5, "float16": 30.0}[setting.dtype]
        return cost * (setting.batch / 64) ** 0.5 * (1.1 if setting.autocast else 1)

    def __call__(self, setting, seed, limit_s, watch):
        if setting.compiled:
            raise RuntimeError("compiler: g++ is not found on your system")
        needed = self.seconds(setting) * self.random.lognormvariate(0, 0.02)
        for done in range(1, 21):
            self.now += needed / 20
            seconds = needed * done / 20
            if seconds > limit_s or watch(seconds, 2 - 1.5 * done / 20):
                raise search.Pruned(f"after {seconds}")
        return training.Reached(needed, 0.49)

    def search(self, method, budget_s=200):
        default, space = training.space(["cpu"])
        task = training.Training(default, space, self, 20.0)
        return search.run(task, method, budget_s, now=lambda: self.now)


@pytest.mark.integration
@pytest.mark.parametrize("method", search.METHODS)
def test_training_finds_the_cheapest_way_and_gives_slow_ones_up(method):
    if method == "bayes":
        pytest.importorskip("optuna", reason="Optuna is an optional extra")
    trainer = Trainer()
    found = trainer.search(method, 200)
    best = found.ranked[0].setting
    assert (best.dtype, best.batch, best.compiled) == ("bfloat16", 16, False)
    reasons = [trial.reason for trial in found.trials.values()]
    assert any(reason.startswith("pruned: after") for reason in reasons)
    compiled = {t.reason for t in found.trials.values() if t.setting.compiled}
    assert compiled <= {"unsupported: compiler: g++ is not found on your system"}
    assert not any(t.rates for t in found.trials.values() if t.setting.dtype == "float16")


def test_the_proof_alternates_uses_new_seeds_and_keeps_to_its_budget():
    sides = {"default": training.Setting("cpu"), "winner": training.Setting("cpu", "bfloat16")}
    now, seen = [0.0], []

    def train(setting, seeds):
        now[0] += 4
        seen.append((setting.dtype, seeds))
        return {
            "seconds": [2.0 if setting.dtype == "float32" else 1.0 + len(seen) / 1e3],
            "loss": [0.5],
        }

    runs = {}
    proof.prove(sides, proof.seeds(1.0), train, runs, 1000, lambda: None, now=lambda: now[0])
    assert [dtype for dtype, _ in seen[:4]] == ["float32", "bfloat16", "bfloat16", "float32"]
    assert len(seen) == 10
    assert seen[0][1] == seen[1][1] != seen[2][1]
    assert min(seen[0][1]) > 500
    assert [len(each) for each in proof.seeds(9.0)] == [1] * 5
    ratio, words = proof.result(runs, 0.5)
    assert ratio.low > 1.9
    assert words.startswith("5 fresh processes per side in turn: a loss of 0.5 after 1.01 s")
    runs = {}
    proof.prove(sides, proof.seeds(1.0), train, runs, 22, lambda: None, now=lambda: now[0] - 40)
    assert "no more than 2 of 5" in proof.result(runs, 0.5)[1]
    runs["winner"].pop()
    assert proof.result(runs, 0.5)[0] is None
    proof.prove(sides, proof.seeds(1.0), train, runs, 1000, lambda: None, now=lambda: now[0])
    assert [len(runs[side]) for side in proof.SIDES] == [5, 5]


@pytest.fixture
def task():
    """Samples that a network learns at once."""
    x = torch.randn(512, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    y = x[:, 0, 0, 0].gt(0).long()
    x[:, 0, :5] = 3 * (2 * y[:, None, None].float() - 1)
    return training.task(NeuralNetwork, torch.utils.data.TensorDataset(x, y))


@pytest.fixture
def ticks(monkeypatch):
    """A clock that advances by 1 s at each reading."""
    count = itertools.count(1.0).__next__
    device = devices.Device("cpu", torch.device("cpu"), now=count)
    monkeypatch.setattr(devices, "find", lambda name: device)


def test_a_setting_has_its_own_threads(task, ticks, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    _, space = training.space(["cpu"])
    assert {setting.threads for setting in space} == {0, 1}
    training.train(task, training.Setting("cpu", batch=32, threads=1), 0, 0.5, 1e6)
    assert seen == [1, 4]


def test_the_time_of_a_training_counts_steps_and_not_looks(task, ticks):
    setting = training.Setting("cpu", batch=32)
    first = training.train(task, setting, 0, 0.3, 1e6)
    assert first.loss <= 0.3
    assert first == training.train(task, setting, 0, 0.3, 1e6)
    assert first != training.train(task, setting, 1, 0.3, 1e6)
    later = training.train(task, setting, 0, 0.1, 1e6)
    assert later.seconds > first.seconds
    with pytest.raises(search.Pruned, match=r"not 0.1 \(--target\)"):
        training.train(task, setting, 0, 0.1, first.seconds / 2)
    with pytest.raises(search.Pruned):
        training.train(task, setting, 0, 0.0001, 1e6, lambda seconds, loss: seconds > 9)
    with pytest.raises(search.Pruned, match=r"the loss was (nan|inf)"):
        training.train(task, training.Setting("cpu", lr=1e30), 0, 0.1, 1e6)


@pytest.mark.parametrize(
    ("optimizer", "dtype", "autocast"),
    [
        ("sgd", "float32", False),
        ("momentum", "bfloat16", False),
        ("rmsprop", "bfloat16", True),
        ("adam", "float16", True),
    ],
)
def test_the_code_to_paste_runs_and_trains(optimizer, dtype, autocast):
    _, (setting, *_) = training.space(["cpu"], [optimizer])
    setting = training.replace(setting, optimizer=optimizer, dtype=dtype, autocast=autocast)
    names = {}
    exec(training.code(setting, "cross_entropy").replace("2048", "128"), names)
    assert names["loss"].isfinite()
    parameter = next(names["model"].parameters())
    assert parameter.dtype == (torch.float32 if autocast else getattr(torch, dtype))
    assert names["optimizer"].param_groups[0]["lr"] == setting.lr


def test_the_code_names_what_is_ones_own_and_compiles():
    setting = training.Setting("cpu", compiled=True)
    program = training.code(setting, "mse_loss", "my.nets:make", "my.sets:load")
    compile(program, "pasted", "exec")
    assert "set_num_threads" not in program
    single = training.replace(setting, threads=1)
    assert "torch.set_num_threads(1)" in training.code(single, "mse_loss")
    assert "from my.nets import make\nfrom my.sets import load\ndataset = load()" in program
    assert "model.compile()" in program
    assert "drop_last=True" in program


def test_a_training_is_tuned_and_proven_and_its_winner_printed(task, small, monkeypatch, tmp_path):
    """Everything but the processes and the clock is real."""
    now = itertools.count().__next__
    monkeypatch.setattr(search, "run", functools.partial(search.run, now=now))
    monkeypatch.setattr(training, "train", lambda task, setting, seed, target, *_: trained(setting))
    monkeypatch.setattr(proof, "prove", functools.partial(proof.prove, now=lambda: 0.0))
    monkeypatch.setattr(proof, "fresh", in_this_process)
    monkeypatch.chdir(tmp_path)
    words = ["--setting", "batch=16", "--setting", "batch=32 dtype=bfloat16", "--budget", "60"]
    done = run_bench("tune", "training", *words)
    assert done.exit_code == 0, done.output
    assert "3 of 3 settings were tried" in done.output
    text = " ".join(done.output.split())
    assert "Use device=cpu dtype=bfloat16 batch=32 optimizer=sgd lr=0.1: 4.00 times as fast" in text
    assert "5 fresh processes per side in turn: a loss of 0.5 after" in text
    assert "batch_size=32" in done.output
    stored = json.loads(next(tmp_path.glob("tune/*.json")).read_text())
    assert (stored["winner"]["dtype"], stored["winner"]["batch"]) == ("bfloat16", 32)


def test_ctrl_c_prints_the_best_so_far_and_how_to_go_on(task, small, monkeypatch, tmp_path):
    calls = itertools.count()

    def train(task, setting, *_):
        if next(calls) == 9:  # three settings of three trainings each are measured
            raise KeyboardInterrupt
        return trained(setting)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.chdir(tmp_path)
    words = ["--setting", "batch=16", "--setting", "batch=32"]
    done = run_bench("tune", "training", *words)
    assert done.exit_code == 130
    text = " ".join(done.output.split())
    assert "not proven: device=cpu dtype=float32 batch=32 optimizer=sgd lr=0.1. " in text
    assert "bench tune training --resume tune/training-" in done.output


def trained(setting):
    seconds = {16: 1.0, 32: 0.5, 64: 2.0}[setting.batch]
    return training.Reached(seconds * random.lognormvariate(0, 0.001), 0.4)


@contextlib.contextmanager
def in_this_process(*_):
    def train(setting, seeds):
        found = [trained(setting) for _ in seeds]
        return {"seconds": [one.seconds for one in found], "loss": [one.loss for one in found]}

    yield train


@pytest.mark.integration
def test_a_fresh_process_trains_to_the_target_or_says_why_not(task, monkeypatch):
    with proof.fresh(task, "", 0.3, 100.0) as train:
        seen = train(training.Setting("cpu", batch=16), [5])
        assert seen["seconds"][0] > 0
        assert seen["loss"][0] <= 0.3
        monkeypatch.setattr(proof.sys, "executable", shutil.which("false"))
        with pytest.raises(search.Pruned, match="no message"):
            train(training.Setting("cpu"), [5])
