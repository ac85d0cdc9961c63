"""Search for the fastest DataLoader settings of this machine within a budget of seconds."""

import contextlib
import itertools
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

from bench.measure import environment
from bench.measure.devices import Device
from bench.records.choices import UserError
from bench.records.lines import of_exception
from bench.stats import quantiles
from bench.suite.loading.workers import START_METHODS, loader_of

METHODS = ("grid", "random", "bayes")
#: Share of the budget for the first measurement of each setting; the rest is for the finalists.
SCREENING = 0.6
#: Finalists are the settings within this factor of the fastest, at most so many, and the fastest
#: one without workers.
CLOSE, FINALISTS = 0.8, 6
#: Epochs of a measurement, after one that starts the workers and fills the caches.
EPOCHS = 2
#: Assumed seconds of a measurement until one with the same start method has been made.
UNKNOWN_S = 5.0


class CannotTune(UserError):
    """The search cannot run as requested; the message is one line for the user."""


@dataclass(frozen=True)
class Setting:
    """Settings of a DataLoader that change its speed and not its samples."""

    workers: int
    batch: int
    start: str = START_METHODS[0]
    persistent: bool = True
    pin: bool = False

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.arguments().items())

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of a DataLoader."""
        given: dict[str, Any] = {"num_workers": self.workers, "batch_size": self.batch}
        if self.workers:
            given["multiprocessing_context"] = self.start
            given["persistent_workers"] = self.persistent
        if self.pin:
            given["pin_memory"] = True
        return given


@dataclass
class Trial:
    """Samples a second in each epoch of one setting.

    `screened` holds the epochs of the first measurement, `compared` those that alternate with the
    other finalists. Only `compared` epochs were timed under the same conditions, and only they did
    not select the finalists.
    """

    setting: Setting
    screened: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """The epochs that count: those of the comparison, if there are any."""
        return self.compared or self.screened

    @property
    def rate(self) -> float:
        """Median samples a second."""
        return statistics.median(self.rates)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median; the range if there are fewer than six epochs."""
        return quantiles.median_interval(self.rates) or (min(self.rates), max(self.rates))


#: Opens a loader of a setting; yields a function that runs an epoch and returns samples a second.
Session = Callable[[Setting], contextlib.AbstractContextManager[Callable[[], float]]]


def space(pin: bool = False) -> list[Setting]:
    """Return all settings that are worth a measurement on this machine."""
    cpus = environment.cpu_count()
    workers = sorted({0, 1, 2, 4, 8, cpus // 2, cpus} & set(range(2 * cpus + 1)))
    pins = (False, True) if pin else (False,)
    found = []
    for count, batch, with_pin in itertools.product(workers, (16, 32, 64, 128, 256), pins):
        starts = START_METHODS if count else START_METHODS[:1]
        persistent = (True, False) if count else (True,)
        found += [Setting(count, batch, s, keep, with_pin) for s in starts for keep in persistent]
    return found


def sessions(dataset: Dataset[Any], device: Device) -> Session:
    """Return a session that loads `dataset` and copies its batches to `device`."""
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError as problem:
        raise CannotTune(f"--dataset: a data set with a length is needed ({problem})") from None

    def to_device(batch: Any, wait: bool) -> None:
        if isinstance(batch, torch.Tensor):
            batch.to(device.torch_device, non_blocking=not wait)
        elif isinstance(batch, (list, tuple, Mapping)):
            for part in batch.values() if isinstance(batch, Mapping) else batch:
                to_device(part, wait)

    @contextlib.contextmanager
    def session(setting: Setting) -> Iterator[Callable[[], float]]:
        with warnings.catch_warnings():
            # More workers than CPUs are among the settings on purpose.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            with loader_of(dataset, **setting.arguments()) as loader:

                def epoch() -> float:
                    start = device.clock()
                    for batch in loader:
                        to_device(batch, not setting.pin)
                    return count / (device.clock() - start)

                yield epoch

    return session


class _Search:
    """Measures settings while the budget lasts."""

    def __init__(self, session: Session, budget_s: float, now: Callable[[], float]) -> None:
        self.trials: dict[Setting, Trial] = {}
        self._session = session
        self._now = now
        self._began = now()
        self._budget_s = budget_s
        self._cost_s: dict[tuple[str, bool], float] = {}
        self.broken: set[tuple[str, bool]] = set()

    def kind(self, setting: Setting) -> tuple[str, bool]:
        """Return a key that is equal for settings of similar cost that also fail together."""
        return (setting.start if setting.workers else "", setting.persistent)

    def affords(self, setting: Setting, share: float = 1.0) -> bool:
        """Whether a measurement of `setting` fits into this share of the budget."""
        cost = self._cost_s.get(self.kind(setting), UNKNOWN_S)
        return self._now() - self._began + cost <= share * self._budget_s

    def measure(self, setting: Setting) -> list[float]:
        """Time `EPOCHS` epochs of `setting`; return samples a second in each."""
        start = self._now()
        with self._session(setting) as epoch:
            epoch()
            rates = [epoch() for _ in range(EPOCHS)]
        kind = self.kind(setting)
        self._cost_s[kind] = max(self._now() - start, self._cost_s.get(kind, 0.0))
        return rates


def _suggestions(
    settings: Sequence[Setting], method: str, seed: int
) -> Iterator[tuple[Setting, Callable[[float], object]]]:
    """Yield settings to measure, each with a function that takes its rate."""
    if method == "bayes":
        yield from _bayesian(settings, seed)
        return
    order = list(settings)
    if method == "random":
        random.Random(seed).shuffle(order)
    else:
        # The common start method first: a small budget skips the others, not batch sizes.
        order.sort(key=lambda s: (s.start != START_METHODS[0], not s.persistent))
    for setting in order:
        yield setting, lambda rate: None


def _bayesian(
    settings: Sequence[Setting], seed: int
) -> Iterator[tuple[Setting, Callable[[float], object]]]:
    """Suggest settings with Optuna's tree-structured Parzen estimator."""
    try:
        import optuna
    except ImportError:
        raise CannotTune(
            "--method bayes needs Optuna: pip install 'torch-device-bench[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    known = set(settings)
    axes = {
        name: sorted({getattr(setting, name) for setting in settings})
        for name in ("workers", "batch", "start", "persistent", "pin")
    }
    seen: dict[Setting, float] = {}
    for _ in range(20 * len(known)):
        if len(seen) == len(known):
            return
        trial = study.ask()
        drawn = Setting(**{name: trial.suggest_categorical(name, axes[name]) for name in axes})
        setting = drawn if drawn.workers else Setting(0, drawn.batch, pin=drawn.pin)
        if setting not in seen:
            rates: list[float] = []
            yield setting, rates.append
            if not rates:
                return
            seen[setting] = rates[0]
        study.tell(trial, seen[setting])


def search(
    settings: Sequence[Setting],
    session: Session,
    method: str,
    budget_s: float,
    seed: int = 0,
    now: Callable[[], float] = time.perf_counter,
    warn: Callable[[str], object] = lambda line: None,
) -> list[Trial]:
    """Return the trials of a search, the best first.

    First, every suggested setting is measured once, within a share of the budget. Then those close
    to the fastest are measured in turn, so that a lucky epoch does not decide. A setting in which
    loading fails is skipped, with a line to `warn`. Raises CannotTune if all settings fail, or if
    the budget is too small for one measurement.
    """
    found = _Search(session, budget_s, now)
    failed = ""
    for setting, report in _suggestions(settings, method, seed):
        if found.kind(setting) in found.broken:
            report(0.0)
            continue
        if not found.affords(setting, SCREENING):
            if method == "bayes":
                break
            continue
        try:
            rates = found.measure(setting)
        except Exception as problem:
            # A data set of the user may raise anything. One that cannot be pickled, for example,
            # has no workers under spawn.
            failed = f"{setting}: {of_exception(problem)}"
            warn(f"skipped: settings like {failed}")
            found.broken.add(found.kind(setting))
            report(0.0)
            continue
        trial = found.trials[setting] = Trial(setting, rates)
        report(trial.rate)
    if not found.trials and failed:
        raise CannotTune(f"--dataset: loading failed with {failed}")
    if not found.trials:
        raise CannotTune(f"--budget {budget_s:g}: too little for one setting; give more seconds")
    for trial in itertools.cycle(_finalists(found.trials.values())):
        if not found.affords(trial.setting):
            break
        trial.compared += found.measure(trial.setting)
    return _by_rate(found.trials.values())


def _by_rate(trials: Iterable[Trial]) -> list[Trial]:
    """Sort by rate, the fastest first; settings that were compared precede all others."""
    return sorted(trials, key=lambda trial: (not trial.compared, -trial.rate))


def _finalists(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials close to the fastest, and the fastest one without workers."""
    ordered = sorted(trials, key=lambda trial: -trial.rate)
    close = [t for t in ordered[:FINALISTS] if t.rate >= CLOSE * ordered[0].rate]
    plain = [t for t in ordered if not t.setting.workers][:1]
    return close + [t for t in plain if t not in close]
