"""Search for this machine's best DataLoader setting, within a budget of seconds."""

import contextlib
import itertools
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

from bench.measure import environment
from bench.measure.devices import Device
from bench.stats import quantiles
from bench.suite.loading.workers import START_METHODS, loader_of

METHODS = ("grid", "random", "bayes")
#: Share of the budget for looking around; the rest goes to the settings that looked best, ...
LOOKING = 0.6
#: ... which are those within this factor of the best, so many at most, and the best one without
#: workers.
CLOSE, FINALISTS = 0.8, 6
#: Epochs of a look, after one that starts the workers and fills the caches.
EPOCHS = 2
#: What a look is taken to cost while none with the same start method has been seen.
UNKNOWN_S = 5.0


class CannotTune(Exception):
    """The search cannot be run as asked; the message is one line for the user."""


@dataclass(frozen=True)
class Setting:
    """The settings of a DataLoader that change its speed and not what it delivers."""

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
    """What was seen of one setting: samples a second in each epoch.

    `looked` is of the first look, `compared` of those taken in turn with the other finalists: only
    these are of one time, and only they were not what the finalists were picked by.
    """

    setting: Setting
    looked: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """What counts: the comparison, where there was one."""
        return self.compared or self.looked

    @property
    def rate(self) -> float:
        """Median samples a second."""
        return statistics.median(self.rates)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median, or the whole range of fewer than six epochs."""
        return quantiles.median_interval(self.rates) or (min(self.rates), max(self.rates))


#: Opens a loader of a setting; the call it gives runs an epoch and returns samples a second.
Session = Callable[[Setting], contextlib.AbstractContextManager[Callable[[], float]]]


def space(pin: bool = False) -> list[Setting]:
    """Return every setting worth a look on this machine."""
    cpus = environment.cpu_count()
    workers = sorted({0, 1, 2, 4, 8, cpus // 2, cpus} & set(range(2 * cpus + 1)))
    pins = (False, True) if pin else (False,)
    found = []
    for count, batch, with_pin in itertools.product(workers, (16, 32, 64, 128, 256), pins):
        starts = START_METHODS if count else START_METHODS[:1]
        stays = (True, False) if count else (True,)
        found += [Setting(count, batch, s, stay, with_pin) for s in starts for stay in stays]
    return found


def sessions(dataset: Dataset[Any], device: Device) -> Session:
    """Return what opens real loaders of `dataset`, whose batches go to `device`."""
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError as problem:
        raise CannotTune(f"--dataset: a data set with a length is needed ({problem})") from None

    def to_device(batch: Any, wait: bool) -> None:
        for part in batch if isinstance(batch, (list, tuple)) else [batch]:
            if isinstance(part, torch.Tensor):
                part.to(device.torch_device, non_blocking=not wait)

    @contextlib.contextmanager
    def session(setting: Setting) -> Iterator[Callable[[], float]]:
        with warnings.catch_warnings():
            # Whether more workers than CPUs help is what is being found out.
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
    """Trials of settings while the budget lasts."""

    def __init__(self, session: Session, budget_s: float, now: Callable[[], float]) -> None:
        self.trials: dict[Setting, Trial] = {}
        self._session = session
        self._now = now
        self._began = now()
        self._budget_s = budget_s
        self._cost_s: dict[tuple[str, bool], float] = {}
        self.broken: set[tuple[str, bool]] = set()

    def kind(self, setting: Setting) -> tuple[str, bool]:
        """Return what settings that cost about the same, and fail alike, have in common."""
        return (setting.start if setting.workers else "", setting.persistent)

    def affords(self, setting: Setting, share: float = 1.0) -> bool:
        """Whether another look at `setting` ends within that share of the budget."""
        cost = self._cost_s.get(self.kind(setting), UNKNOWN_S)
        return self._now() - self._began + cost <= share * self._budget_s

    def look(self, setting: Setting) -> list[float]:
        """Time some epochs of `setting`; return samples a second in each."""
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
    """Give settings to look at, each with what is to be told its rate."""
    if method == "bayes":
        yield from _bayesian(settings, seed)
        return
    order = list(settings)
    if method == "random":
        random.Random(seed).shuffle(order)
    else:
        # Coarse first: what the budget cuts off are the rarer start methods, not the batches.
        order.sort(key=lambda s: (s.start != START_METHODS[0], not s.persistent))
    for setting in order:
        yield setting, lambda rate: None


def _bayesian(
    settings: Sequence[Setting], seed: int
) -> Iterator[tuple[Setting, Callable[[float], object]]]:
    """Suggest by Optuna's tree-structured Parzen estimator."""
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
    tell: Callable[[Trial], object] = lambda trial: None,
    warn: Callable[[str], object] = lambda line: None,
) -> list[Trial]:
    """Return the trials of a search, the best first.

    First every suggested setting gets a look, while a share of the budget lasts; then those close
    to the best get further ones in turn, so that a lucky epoch does not decide. Settings in which
    loading fails are left out, with a line to `warn`. Raises CannotTune where all fail, or where
    the budget is too small for a single look.
    """
    found = _Search(session, budget_s, now)
    failed = ""
    for setting, told in _suggestions(settings, method, seed):
        if found.kind(setting) in found.broken:
            told(0.0)
            continue
        if not found.affords(setting, LOOKING):
            if method == "bayes":
                break
            continue
        try:
            rates = found.look(setting)
        except Exception as problem:
            # Whatever the user's data set raises: one that cannot be pickled has no workers under
            # spawn, and does without.
            failed = f"{setting}: {type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
            warn(f"left out: settings like {failed}")
            found.broken.add(found.kind(setting))
            told(0.0)
            continue
        trial = found.trials[setting] = Trial(setting, rates)
        told(trial.rate)
        tell(trial)
    if not found.trials and failed:
        raise CannotTune(f"--dataset: it gives no samples with {failed}")
    if not found.trials:
        raise CannotTune(f"--budget {budget_s:g}: too little for one setting; give more seconds")
    for trial in itertools.cycle(_finalists(found.trials.values())):
        if not found.affords(trial.setting):
            break
        trial.compared += found.look(trial.setting)
    return _by_rate(found.trials.values())


def _by_rate(trials: Iterable[Trial]) -> list[Trial]:
    """Sort, the best first; those that were compared go before those that were not."""
    return sorted(trials, key=lambda trial: (not trial.compared, -trial.rate))


def _finalists(trials: Iterable[Trial]) -> list[Trial]:
    ordered = sorted(trials, key=lambda trial: -trial.rate)
    close = [t for t in ordered[:FINALISTS] if t.rate >= CLOSE * ordered[0].rate]
    plain = [t for t in ordered if not t.setting.workers][:1]
    return close + [t for t in plain if t not in close]
