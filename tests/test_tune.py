"""`bench tune` finds the best of settings whose true speeds the test knows."""

import contextlib
import functools
import itertools
import json
import random
import re
import sys

import pytest
import torch

from bench.measure import devices
from bench.records.choices import UserError
from bench.report import tuning
from bench.stats.ratios import Ratio
from bench.tune import loader, named, search, study, training
from bench.tune.loader import Setting
from tests.helpers.command import run_bench


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


def test_a_default_that_is_as_good_as_the_first_of_the_table_is_not_called_the_fastest():
    trials = {
        Setting(0, b): search.Trial(Setting(0, b), [r, 2 * r]) for b, r in ((64, 9), (16, 12))
    }
    best = loader.recommended(search.Search(loader.Loading(SETTINGS, None), trials))
    shown = tuning.answer(best.setting, Setting(0, 64), None, "", loader.code)
    assert shown[1] == "No setting is clearly faster than the plain default: workers=0 batch=64."


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
    done = run_bench("tune", *words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.mark.integration
def test_a_data_set_of_ones_own_is_tuned_and_resumed(small, monkeypatch, tmp_path):
    """Real loaders, without workers so that it takes no time, and a clock that counts."""
    now = itertools.count().__next__
    monkeypatch.setattr(search, "run", functools.partial(search.run, now=now))
    monkeypatch.setattr(loader, "space", lambda pin=False: [Setting(0, n) for n in (16, 32, 64)])
    monkeypatch.chdir(tmp_path)
    words = ["tune", "loader", "--dataset", "bench.suite.loading.data:custom_images"]
    done = run_bench(*words, "--budget", "24")
    assert done.exit_code == 0, done.output
    assert "loader = DataLoader(dataset, num_workers=0, batch_size=" in done.output
    (file,) = tmp_path.glob("tune/*.json")
    again = done.output.strip().splitlines()[-1].partition("settings: bench ")[2].split()
    assert again[:4] == ["tune", "loader", "--resume", str(file.relative_to(tmp_path))]
    monkeypatch.setattr(loader.Loading, "measure", lambda *_: pytest.fail("measured again"))
    done = run_bench(*again, "--budget", "0")
    assert done.exit_code == 0, done.output
    assert "3 of 3 settings were tried" in done.output
    done = run_bench(*again, "--method", "random")
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
    assert "12 like workers=1 batch=16" in tuning.table(found, 8, "samples/s")
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
