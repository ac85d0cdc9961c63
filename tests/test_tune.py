"""`bench tune` finds the best of settings whose true speeds the test knows."""

import contextlib
import functools
import itertools
import json
import random
import re
import shutil
import sys

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import main
from bench.measure import devices
from bench.records.choices import UserError
from bench.report import tuning
from bench.stats.ratios import Ratio
from bench.suite.loading import data
from bench.suite.training.models import NeuralNetwork
from bench.tune import loader, named, proof, search, study, training
from bench.tune.loader import Setting


class Truth:
    """Loaders on a virtual clock: what a start and a sample cost is known."""

    def __init__(self, cores=4, noise=0.0, plain=0.8):
        self.now, self.cores, self.looks, self.plain = 0.0, cores, 0, plain
        self.random, self.noise = random.Random(7), noise

    def rate(self, setting):
        """More workers help up to the cores, then hurt; larger batches help a little."""
        workers = max(1, min(setting.workers, self.cores)) - 0.2 * max(
            0, setting.workers - self.cores
        )
        return 1000 * workers * (self.plain if setting.workers == 0 else 1) * setting.batch**0.05

    @contextlib.contextmanager
    def session(self, setting):
        self.looks += 1
        self.now += 3.0 if setting.start == "spawn" and setting.workers else 0.1

        def epoch():
            rate = self.rate(setting) * self.random.lognormvariate(0, self.noise)
            self.now += 500 / rate
            return rate

        yield epoch

    def search(self, method, budget_s, settings=None, **more):
        task = loader.Loading(settings or SETTINGS, self.session)
        return search.run(task, method, budget_s, now=lambda: self.now, **more)


SETTINGS = [
    Setting(workers, batch, start, True)
    for workers in (0, 1, 2, 4, 8)
    for batch in (16, 64, 256)
    for start in (("fork", "spawn") if workers else (loader.START_METHODS[0],))
]


@pytest.mark.parametrize("method", search.METHODS)
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_best_of_the_grid_is_found_within_the_budget(method, noise):
    if method == "bayes":
        pytest.importorskip("optuna", reason="Optuna is an optional extra")
    truth = Truth(noise=noise)
    found = truth.search(method, 120)
    assert truth.now <= 120
    assert found.settled
    best = max(truth.rate(setting) for setting in SETTINGS)
    chosen = found.ranked[0]
    assert truth.rate(chosen.setting) >= (0.97 if noise or method == "bayes" else 1) * best
    low, high = chosen.interval
    assert low <= chosen.rate <= high


def test_the_default_is_measured_first_and_in_turn_with_the_best():
    found = Truth().search("grid", 120)
    assert next(iter(found.trials)) == Setting(0, 64)
    plain, best = found.trials[Setting(0, 64)], found.ranked[0]
    assert len(plain.compared) >= len(best.compared) > 0
    ratio = search.factor(plain.rates, best.rates)
    assert ratio.value == pytest.approx(best.rate / plain.rate)


@pytest.mark.parametrize("budget_s", range(30, 110, 8))
def test_a_part_of_a_turn_is_no_comparison(budget_s):
    """The default is the first of a turn, and slow: it must not win if the budget ends there."""
    truth = Truth(plain=0.1)
    found = truth.search("grid", budget_s)
    best = found.ranked[0].setting
    assert truth.rate(best) == max(truth.rate(setting) for setting in found.trials)
    assert len({bool(trial.compared) for trial in found.finalists()}) == 1


def test_a_small_budget_is_kept_a_tiny_one_refused_and_few_settings_are_no_answer():
    truth = Truth()
    truth.search("grid", 20)
    assert truth.now <= 20
    assert not Truth().search("grid", 9).settled
    with pytest.raises(search.CannotTune, match="too little for one setting"):
        Truth().search("grid", 1)


def test_the_setting_that_is_printed_is_the_one_that_is_recommended():
    """Workers that gain nothing beyond the noise are not recommended, however fast they look."""
    found = Truth(cores=1, noise=0.05, plain=1.0).search("grid", 120)
    best = loader.recommended(found)
    assert best.setting.workers == 0
    ratio = search.factor(found.trials[Setting(0, 64)].rates, best.rates)
    shown = "\n".join(tuning.answer(best.setting, Setting(0, 64), ratio, "", loader.code))
    assert "num_workers=0" in shown
    assert shown.count("DataLoader(") == 1


@pytest.mark.parametrize(
    ("ratio", "words", "code"),
    [
        (Ratio(2, 1.5, 2.6), "2.00 times as fast (95 % interval 1.50 to 2.60)", "workers=2"),
        (Ratio(1.2, 0.9, 1.5), "The plain default is as good", "workers=0"),
        (None, "not proven", "workers=2"),
    ],
)
def test_only_an_interval_above_1_recommends_a_setting(ratio, words, code):
    verdict, program = "\n".join(
        tuning.answer(Setting(2, 64), Setting(0, 64), ratio, "", loader.code)
    ).split("\n\n")
    assert words in " ".join(verdict.split())
    assert code in program


def test_without_optuna_the_bayesian_search_fails_before_it_measures(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    truth = Truth()
    with pytest.raises(search.CannotTune, match="needs Optuna: pip install"):
        truth.search("bayes", 60)
    assert truth.looks == 0


@pytest.mark.parametrize(
    ("default", "settings"),
    [
        (Setting(0, 64), loader.space(pin=True)),
        training.space(["cpu"], ["sgd", "adam"], [0.1, 0.003]),
    ],
)
def test_a_setting_that_is_printed_can_be_given(default, settings):
    """The words of the table are those of --setting."""
    assert [named.parsed(str(one), default, settings) for one in settings] == settings


def test_settings_without_workers_have_nothing_to_start():
    for setting in loader.space():
        if setting.workers == 0:
            assert setting.arguments() == {"num_workers": 0, "batch_size": setting.batch}
    assert len(set(loader.space(pin=True))) == 2 * len(set(loader.space()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loader", "--method", "guess"], "unknown 'guess'; known: manual, grid, random, bayes"),
        (["loader", "--dataset", "nowhere:thing"], "--dataset: cannot import 'nowhere:thing'"),
        (["loader", "--budget", "0.01"], "too little for one setting"),
        (["loader", "--method", "manual"], "needs settings: --setting 'batch=64'"),
        (
            ["loader", "--setting", "batch=7"],
            "'batch=7': give batch=VALUE, one of 16, 32, 64, 128, 256",
        ),
        (["loader", "--dataset", "builtins:object"], "a data set with a length is needed"),
        (["training", "--optimizer", "best"], "unknown 'best'; known: sgd, momentum"),
        (["loader", "--setting", "num_workers=2"], "unknown 'num_workers'; known: workers, batch"),
        (["training", "--setting", "speed=9"], "'speed'; known: device, dtype, autocast, batch"),
        (["training", "--lr", "-1"], "--lr and --target: give numbers above 0"),
        (["training", "--model", "builtins:int"], "--model: 'builtins:int' returns int, no Module"),
        (["training", "--dataset", "builtins:int"], "--dataset: it needs a length and pairs"),
        (["training", "--device", "abacus"], "--device: 'abacus' is no device"),
    ],
)
def test_bad_input_is_one_line(words, message, small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main.app, ["tune", *words])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Images made in no time."""
    monkeypatch.setattr(data, "cache", lambda: tmp_path)
    monkeypatch.setattr(data, "IMAGES", 40)
    images = torch.utils.data.TensorDataset(torch.rand(64, 1, 28, 28), torch.arange(64) % 10)
    monkeypatch.setattr(data, "in_memory", lambda root: images)


@pytest.mark.integration
def test_a_data_set_of_ones_own_is_tuned_and_resumed(small, monkeypatch, tmp_path):
    """Real loaders, without workers so that it takes no time, and a clock that counts."""
    now = itertools.count().__next__
    monkeypatch.setattr(search, "run", functools.partial(search.run, now=now))
    monkeypatch.setattr(loader, "space", lambda pin=False: [Setting(0, n) for n in (16, 32, 64)])
    monkeypatch.chdir(tmp_path)
    words = ["tune", "loader", "--dataset", "bench.suite.loading.data:custom_images"]
    done = CliRunner().invoke(main.app, [*words, "--budget", "24"])
    assert done.exit_code == 0, done.output
    assert "loader = DataLoader(dataset, num_workers=0, batch_size=" in done.output
    (file,) = tmp_path.glob("tune/*.json")
    again = done.output.strip().splitlines()[-1].partition("settings: bench ")[2].split()
    assert again[:4] == ["tune", "loader", "--resume", str(file.relative_to(tmp_path))]
    monkeypatch.setattr(loader.Loading, "measure", lambda *_: pytest.fail("measured again"))
    done = CliRunner().invoke(main.app, [*again, "--budget", "0"])
    assert done.exit_code == 0, done.output
    assert "3 of 3 settings were tried" in done.output
    done = CliRunner().invoke(main.app, [*again, "--method", "random"])
    assert done.exit_code == 2
    assert "was started with --method=grid" in done.output


class Partial(Truth):
    """Loaders of a data set that cannot be sent to workers that are spawned."""

    def session(self, setting):
        if setting.workers and setting.start == "spawn":
            raise TypeError("cannot pickle\nthis")
        return super().session(setting)


class Late(Truth):
    """Loaders of which the third measurement of each setting is given up."""

    def session(self, setting):
        if self.looks > 25:
            raise search.Pruned("late")
        return super().session(setting)


def test_a_finalist_that_fails_later_is_dropped_and_the_default_stays():
    found = Late().search("grid", 120)
    assert found.trials[Setting(0, 64)].rate > 0
    assert "pruned: late" in [trial.reason for trial in found.trials.values()]


class Broken(Truth):
    """Loaders of a data set that cannot be read."""

    def session(self, setting):
        raise ValueError("no such image")


def test_settings_in_which_loading_fails_are_left_out_and_named_once():
    lines = []
    found = Partial().search("grid", 120, warn=lines.append)
    assert found.ranked[0].setting.start == "fork"
    assert len(lines) == 1
    assert lines[0].startswith("skipped: settings like workers=1 batch=16 ")
    assert "cannot pickle" in lines[0]
    assert "12 like workers=1 batch=16" in tuning.table(
        found.ranked, found.trials, len(SETTINGS), 8, "samples/s"
    )
    with pytest.raises(search.CannotTune, match=r"default .* not measured: error: ValueError"):
        Broken().search("grid", 120)


class Interrupted(Truth):
    """The user presses Ctrl-C at the eighth look."""

    def session(self, setting):
        if self.looks == 7:
            raise KeyboardInterrupt
        return super().session(setting)


def test_an_interrupted_search_keeps_what_it_measured_and_goes_on(tmp_path):
    kept = study.Study(tmp_path / "new" / "a.json", ["--method=grid"], "here")
    found = Interrupted().search("grid", 120, keep=kept.keep)
    assert found.stopped
    assert len(found.trials) == 7
    again = study.resume(kept.file, ["--method=grid"], "here", SETTINGS)
    assert again.trials == list(found.trials.values())
    truth = Truth()
    truth.search("grid", 120, known=again.trials)
    assert truth.looks < 7 + Truth().search("grid", 120).problem.session.__self__.looks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(options=["--method=random"]), "was started with --method=random"),
        (lambda s: s.update(machine="there"), "another machine or torch"),
        (lambda s: s["trials"][0].update(screened=[-1]), "not written by bench tune"),
        (lambda s: s.update(trials=3), "not written by bench tune"),
    ],
)
def test_a_study_that_does_not_fit_is_one_line(tmp_path, change, message):
    kept = study.Study(tmp_path / "a.json", ["--method=grid"], "here")
    Truth().search("grid", 30, keep=kept.keep)
    stored = json.loads(kept.file.read_text())
    change(stored)
    kept.file.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=re.escape(message)):
        study.resume(kept.file, ["--method=grid"], "here", SETTINGS)


def test_a_study_only_chooses_among_known_settings(tmp_path):
    kept = study.Study(tmp_path / "a.json", [], "here")
    Truth().search("grid", 30, keep=kept.keep)
    assert study.resume(kept.file, [], "here", SETTINGS[:0]).trials == []


def test_the_parts_of_any_batch_are_copied_to_the_device():
    class Parts(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"image": torch.ones(2), "more": (index, torch.zeros(1))}

    copied = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", lambda self, *_, **__: copied.append(self.shape))
        session = loader.sessions(Parts(), devices.find("cpu"))
        with session(Setting(workers=0, batch=4)) as epoch:
            assert epoch() > 0
    assert copied == [(4, 2), (4,), (4, 1)]


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
        return training.Reached(needed, 0.49, 0.0)

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
    done = CliRunner().invoke(main.app, ["tune", "training", *words])
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
    done = CliRunner().invoke(main.app, ["tune", "training", *words])
    assert done.exit_code == 130
    text = " ".join(done.output.split())
    assert "not proven: device=cpu dtype=float32 batch=32 optimizer=sgd lr=0.1. " in text
    assert "bench tune training --resume tune/training-" in done.output


def trained(setting):
    seconds = {16: 1.0, 32: 0.5, 64: 2.0}[setting.batch]
    return training.Reached(seconds * random.lognormvariate(0, 0.001), 0.4, 0.0)


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
