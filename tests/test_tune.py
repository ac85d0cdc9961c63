"""`bench tune` finds the best of settings whose true speeds the test knows."""

import contextlib
import functools
import itertools
import random

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import main
from bench.measure import devices
from bench.suite.loading import data
from bench.tune import loader
from bench.tune.loader import Setting


class Truth:
    """Loaders on a virtual clock: what a start and a sample cost is known."""

    def __init__(self, cores=4, noise=0.0):
        self.now, self.cores, self.looks = 0.0, cores, 0
        self.random, self.noise = random.Random(7), noise

    def rate(self, setting):
        """More workers help up to the cores, then hurt; larger batches help a little."""
        workers = max(1, min(setting.workers, self.cores)) - 0.2 * max(
            0, setting.workers - self.cores
        )
        return 1000 * workers * (0.8 if setting.workers == 0 else 1) * setting.batch**0.05

    @contextlib.contextmanager
    def session(self, setting):
        self.looks += 1
        self.now += 3.0 if setting.start == "spawn" and setting.workers else 0.1

        def epoch():
            rate = self.rate(setting) * self.random.lognormvariate(0, self.noise)
            self.now += 500 / rate
            return rate

        yield epoch


SETTINGS = [
    Setting(workers, batch, start, True)
    for workers in (0, 1, 2, 4, 8)
    for batch in (16, 64, 256)
    for start in (("fork", "spawn") if workers else (loader.START_METHODS[0],))
]


@pytest.mark.parametrize("method", loader.METHODS)
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_best_of_the_grid_is_found_within_the_budget(method, noise):
    if method == "bayes":
        pytest.importorskip("optuna", reason="Optuna is an optional extra")
    truth = Truth(noise=noise)
    trials = loader.search(SETTINGS, truth.session, method, 120, now=lambda: truth.now)
    assert truth.now <= 120
    best = max(truth.rate(setting) for setting in SETTINGS)
    assert truth.rate(trials[0].setting) >= (0.97 if noise or method == "bayes" else 1) * best
    low, high = trials[0].interval
    assert low <= trials[0].rate <= high


def test_a_small_budget_is_kept_and_a_tiny_one_refused():
    truth = Truth()
    loader.search(SETTINGS, truth.session, "grid", 20, now=lambda: truth.now)
    assert truth.now <= 20
    with pytest.raises(loader.CannotTune, match="too little for one setting"):
        loader.search(SETTINGS, truth.session, "grid", 1, now=lambda: truth.now)


def test_settings_without_workers_have_nothing_to_start():
    for setting in loader.space():
        if setting.workers == 0:
            assert setting.arguments() == {"num_workers": 0, "batch_size": setting.batch}
    assert len(set(loader.space(pin=True))) == 2 * len(set(loader.space()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "guess"], "unknown 'guess'; known: grid, random, bayes"),
        (["--dataset", "nowhere:thing"], "--dataset: cannot import 'nowhere:thing'"),
        (["--budget", "0.01"], "too little for one setting"),
    ],
)
def test_bad_input_is_one_line(words, message):
    done = CliRunner().invoke(main.app, ["tune", *words])
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_data_set_of_ones_own_is_tuned(monkeypatch, tmp_path):
    """Real loaders, without workers so that it takes no time, and a clock that counts."""
    now = itertools.count().__next__
    monkeypatch.setattr(loader, "search", functools.partial(loader.search, now=now))
    monkeypatch.setattr(data, "cache", lambda: tmp_path)
    monkeypatch.setattr(data, "IMAGES", 40)
    monkeypatch.setattr(loader, "space", lambda pin=False: [Setting(0, 16), Setting(0, 32)])
    words = ["tune", "--dataset", "bench.suite.loading.data:custom_images", "--budget", "24"]
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == 0, done.output
    assert "DataLoader(dataset, num_workers=0, batch_size=" in done.output


class Partial(Truth):
    """Loaders of a data set that cannot be sent to workers that are spawned."""

    def session(self, setting):
        if setting.workers and setting.start == "spawn":
            raise TypeError("cannot pickle\nthis")
        return super().session(setting)


@pytest.mark.integration
def test_settings_in_which_loading_fails_are_left_out_and_named_once():
    truth, lines = Partial(), []
    now = lambda: truth.now  # noqa: E731
    trials = loader.search(SETTINGS, truth.session, "grid", 120, now=now, warn=lines.append)
    assert trials[0].setting.start == "fork"
    assert len(lines) == 1
    assert lines[0].startswith("skipped: settings like num_workers=1 batch_size=16 ")
    assert lines[0].endswith("TypeError: cannot pickle this")
    spawned = [s for s in SETTINGS if s.workers and s.start == "spawn"]
    with pytest.raises(loader.CannotTune, match="--dataset: loading failed with num_workers=1"):
        loader.search(spawned, truth.session, "grid", 120, now=now)


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


def test_a_data_set_without_a_length_is_one_line():
    done = CliRunner().invoke(main.app, ["tune", "--dataset", "builtins:object"])
    assert done.exit_code == 2
    assert "bench: --dataset: a data set with a length is needed" in done.output
