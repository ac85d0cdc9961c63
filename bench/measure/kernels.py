"""The reference kernels: fixed pieces of work whose time shows whether the machine is quiet."""

import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from bench.measure import calibration

#: Attempts per reading at most; a reading within this factor of the best ends them.
TRIES, GOOD_ENOUGH = 6, 1.05
#: Seconds to search for the best time of a kernel when a run starts: on a machine whose best is
#: unknown, and on one for which the cache of the last day has it.
SEARCH_S, SEARCH_KNOWN_S = 0.5, 0.1
#: The wait budget of a run in seconds: per cell, in all at least, in all at most; and the pause
#: between two checks. On a host that moves its virtual cores, a disturbance lasts for seconds, so
#: a disturbed cell first moves to the end of the run, and only then waits for a quiet moment.
WAIT_PER_CELL_S, MIN_WAIT_S, MAX_WAIT_S, PAUSE_S = 0.1, 1.0, 45.0, 0.02
#: Calls from here on move more data than a cache holds: they react less to slow synchronisation.
LONG_CALL_S = 10e-3
_INPUT = bytes(2_000)


@dataclass
class ReferenceKernel:
    """A fixed piece of work of some microseconds; its time depends on the machine alone.

    A reading divides its time by the best known time. This reveals other users of the same
    physical core, a lower clock, and threads on distant cores, which no counter shows.
    `name` is the key in the calibration cache, `make` returns the work. From `limit` times the
    best on, the disturbance `code` is reported; `long_limit` replaces it for calls of
    `LONG_CALL_S` or more. Kernels for `several_threads` are read if the timed operation uses
    several threads, the others if it uses one.
    """

    name: str
    make: Callable[[], Callable[[], object]]
    limit: float
    code: str
    several_threads: bool = False
    long_limit: float | None = None
    best_s: float = math.inf

    @functools.cached_property
    def work(self) -> Callable[[], object]:
        """The work itself, made when it is first needed."""
        return self.make()

    def limit_for(self, call_s: float) -> float:
        """Return the limit for calls of `call_s` seconds."""
        return self.limit if self.long_limit is None or call_s < LONG_CALL_S else self.long_limit

    def search(self, seconds: float) -> None:
        """Look for the best time for so many seconds."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.read()

    def read(self) -> float:
        """Return the time now divided by the best: the quickest of up to `TRIES` attempts.

        The first attempts find the caches as the timed operation left them: after an operation
        that streams 100 MB they are slow on any machine.
        """
        seconds = math.inf
        for _ in range(TRIES):
            start = time.perf_counter()
            self.work()
            seconds = min(seconds, time.perf_counter() - start)
            if seconds <= GOOD_ENOUGH * self.best_s:
                break
        self.best_s = min(self.best_s, seconds)
        return seconds / self.best_s


def core() -> Callable[[], object]:
    """Return work for one core: some 8 us of arithmetic in registers.

    BLAKE2 uses several units of a core at once, so another user of the core slows it down, and it
    needs no memory. A Python loop is unsuitable: its time differs by up to 1.3 times between
    processes, with the addresses of its objects; this one by 1.005 times.
    """

    def digest() -> None:
        for _ in range(4):  # below 2048 bytes, hashlib keeps the interpreter's lock
            hashlib.blake2b(_INPUT, usedforsecurity=False)

    return digest


def synchronisation() -> Callable[[], object]:
    """Return the smallest operation that uses all compute threads, some microseconds.

    An elementwise operation uses one more thread per 32,768 elements (at::internal::GRAIN_SIZE).
    """
    return torch.ones(2**15 * torch.get_num_threads()).neg_


def throughput() -> Callable[[], object]:
    """Return arithmetic for all compute threads, some 15 us: as slow as the slowest core.

    In place, on numbers that converge to 0.659: it allocates nothing and meets no denormals.
    """
    return torch.full((2**15 * torch.get_num_threads(),), 0.6).sigmoid_


def all_kernels() -> list[ReferenceKernel]:
    """Return every reference kernel that this process can use. A new kernel is one entry here.

    Limits: on two quiet virtual cores, `throughput` takes 1.00 to 1.02 times its best, and 1.25 to
    1.6 if another process uses part of either core. `synchronisation` takes 2.3 us with a cache
    that both cores share, 4.3 us without, up to 3.4 us on a quiet machine. Of 534 cells whose
    threads synchronised within the limit, none was 1.3 times off the best of six processes; of 181
    others one in five was, by up to 3.1 times. Long calls were no more than 1.2 times off.
    """
    kernels = [
        ReferenceKernel("core", core, 1.2, "slow_core"),
        ReferenceKernel(
            "synchronisation", synchronisation, 1.5, "slow_synchronisation", True, long_limit=2.0
        ),
        ReferenceKernel("throughput", throughput, 1.15, "slow_throughput", True),
    ]
    several = torch.get_num_threads() > 1
    return [kernel for kernel in kernels if several or not kernel.several_threads]


@dataclass
class WaitBudget:
    """The seconds that a run may still wait for quiet moments."""

    left_s: float = 0.0

    @classmethod
    def of(cls, cells: int) -> "WaitBudget":
        """Return the budget of a run of so many cells."""
        return cls(min(MAX_WAIT_S, max(MIN_WAIT_S, WAIT_PER_CELL_S * cells)))

    def wait(self) -> bool:
        """Wait for `PAUSE_S`; return False, at once, if nothing is left."""
        if self.left_s <= 0:
            return False
        time.sleep(PAUSE_S)
        self.left_s -= PAUSE_S
        return True


@dataclass(frozen=True)
class ReferenceKernels:
    """The reference kernels of a run, and its wait budget."""

    kernels: Sequence[ReferenceKernel] = ()
    budget: WaitBudget = field(default_factory=WaitBudget)

    def __iter__(self) -> Iterator[ReferenceKernel]:
        """Iterate over the kernels."""
        return iter(self.kernels)

    def __len__(self) -> int:
        """Return their number."""
        return len(self.kernels)

    def of_threads(self, several: bool) -> "ReferenceKernels":
        """Return the kernels for an operation on several threads, or on one; the budget is shared.

        With all cores at work, each may have a lower clock than one alone. That is no disturbance,
        so the kernels of one thread do not apply to several.
        """
        chosen = [kernel for kernel in self if kernel.several_threads == several]
        return ReferenceKernels(chosen, self.budget)

    def load(self, key: str) -> bool:
        """Use the best times that the cache has for the machine `key`; return whether it has all.

        `key` names the machine and its software, the cache holds times of the last day.
        """
        known = calibration.known(key)
        for kernel in self:
            kernel.best_s = min(kernel.best_s, known.get(kernel.name, math.inf))
        return all(kernel.name in known for kernel in self)

    def store(self, key: str) -> None:
        """Keep the best times for later processes."""
        calibration.keep(key, {kernel.name: kernel.best_s for kernel in self})


def core_only() -> ReferenceKernels:
    """Return the kernels of one thread with their best times searched, and no wait budget."""
    made = ReferenceKernels(all_kernels()).of_threads(several=False)
    for kernel in made:
        kernel.search(SEARCH_S)
    return made


def prepare(key: str, cells: int = 0) -> ReferenceKernels:
    """Return all reference kernels with their best times, and the budget of a run of `cells`."""
    made = ReferenceKernels(all_kernels(), WaitBudget.of(cells))
    seconds = SEARCH_KNOWN_S if made.load(key) else SEARCH_S
    for kernel in made:
        kernel.search(seconds)
    return made
