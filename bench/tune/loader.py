"""Search for the fastest DataLoader settings of this machine."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from bench.measure import environment
from bench.measure.devices import Device
from bench.suite.loading.workers import START_METHODS, loader_of
from bench.tune.search import CannotTune, Search, Trial, Watch

#: Epochs of a measurement, after one that starts the workers and fills the caches.
EPOCHS = 2


@dataclass(frozen=True)
class Setting:
    """Settings of a DataLoader that change its speed and not its samples."""

    workers: int
    batch: int
    start: str = START_METHODS[0]
    persistent: bool = True
    pin: bool = False

    def __str__(self) -> str:
        words = [f"workers={self.workers}", f"batch={self.batch}"]
        words += [f"start={self.start}", f"persistent={self.persistent}"] if self.workers else []
        return " ".join([*words, *(["pin=True"] if self.pin else [])])

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of a DataLoader."""
        given: dict[str, Any] = {"num_workers": self.workers, "batch_size": self.batch}
        if self.workers:
            given["multiprocessing_context"] = self.start
            given["persistent_workers"] = self.persistent
        if self.pin:
            given["pin_memory"] = True
        return given


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


@dataclass
class Loading:
    """The search for the most samples a second; its default is a DataLoader without workers."""

    settings: Sequence[Setting]
    session: Session
    default: Setting = Setting(0, 64)
    shares: tuple[float, float] = (0.6, 1.0)

    def kind(self, setting: Setting) -> Hashable:
        """Return the start method: that costs most, and what cannot be pickled fails there."""
        return (setting.start if setting.workers else "", setting.persistent)

    def guess_s(self, setting: Setting) -> float:
        """Return the assumed seconds of the first measurement of a kind."""
        return 5.0

    def priority(self, setting: Setting, rates: Mapping[Setting, float]) -> Any:
        """Put the common start method first: a small budget skips the others, not batch sizes."""
        return (setting.start != START_METHODS[0], not setting.persistent)

    def measure(self, setting: Setting, turn: int, fastest: float, watch: Watch) -> list[float]:
        """Return the samples a second of `EPOCHS` epochs."""
        with self.session(setting) as epoch:
            epoch()
            return [epoch() for _ in range(EPOCHS)]


def recommended(search: Search[Setting]) -> Trial[Setting]:
    """Return the trial with the fewest workers of those whose interval reaches the fastest one's.

    Of several, the default counts first, then the fastest.
    """
    best, *rest = search.comparable
    close = [best, *(trial for trial in rest if trial.interval[1] >= best.interval[0])]
    default = search.problem.default
    return min(close, key=lambda t: (t.setting.workers, t.setting != default, -t.rate))


def code(setting: Setting) -> str:
    """Return the DataLoader of a setting as code."""
    words = ", ".join(f"{name}={value!r}" for name, value in setting.arguments().items())
    return f"loader = DataLoader(dataset, {words})"
