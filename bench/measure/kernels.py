"""The reference kernels: fixed pieces of work whose time shows whether the machine is quiet."""

import functools
import hashlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bench.measure import calibration
from bench.measure.devices import Device
from bench.measure.threads import ThreadTimes

#: Attempts per reading at most; a reading within this factor of the best ends them.
TRIES, GOOD_ENOUGH = 6, 1.05
#: Readings that a best time is the mean of: one alone is a lucky one, 3 to 10 % below the usual.
TOGETHER = 8
#: Seconds to search for the best time of a kernel when a run starts: on a machine whose best is
#: unknown, and on one for which the cache of the last day has it.
SEARCH_S, SEARCH_KNOWN_S = 0.5, 0.1
#: A search from which other processes took this share does not contradict the cache.
DOUBTFUL = 0.1
_INPUT = bytes(2_000)


@dataclass
class ReferenceKernel:
    """A fixed piece of work of some microseconds; its time depends on the machine alone.

    Its mean time over the best one reveals other users of the same physical core, of the caches and
    of the memory, a lower clock, and threads on distant cores, which no counter shows.
    `name` is the key in the calibration cache. From `limit` times the best on, the disturbance
    `code` is reported. Kernels for `several_threads` are read if the timed operation uses several
    threads, the others if it uses one; None: in both cases. A kernel that is long is read only
    `once_a_visit`, before the rounds, and not between them. Where the kernel is slower by a factor
    f, operations of torch are slower by up to f to the power of `sensitivity`.
    `usual` is the factor on a quiet machine: between rounds, caches are not as warm as at its best.
    A kernel of an accelerator has the name of its `device`; `now` is its clock.
    """

    name: str
    work: Callable[[], object]
    limit: float
    code: str
    several_threads: bool | None = False
    once_a_visit: bool = False
    sensitivity: int = 1
    usual: float = 1.02
    best_s: float = math.inf
    device: str = ""
    now: Callable[[], float] | None = None

    def search(self, seconds: float) -> None:
        """Look for the best time for so many seconds."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.learn([self.read() for _ in range(TOGETHER)])

    def learn(self, readings_s: Sequence[float]) -> float:
        """Return the mean of several readings, which may be the best time known so far."""
        mean_s = statistics.fmean(readings_s)
        self.best_s = min(self.best_s, mean_s)
        return mean_s

    def read(self) -> float:
        """Return the seconds that the work takes now: the quickest of up to `TRIES` attempts.

        The first attempts find the caches as the timed operation left them: after an operation
        that streams 100 MB they are slow on any machine.
        """
        seconds, now = math.inf, self.now or time.perf_counter
        for _ in range(TRIES):
            start = now()
            self.work()
            seconds = min(seconds, now() - start)
            if seconds <= GOOD_ENOUGH * self.best_s:
                break
        return seconds

    def slowdown(self, seconds: float) -> float:
        """Return a reading over what is usual for the best time known now; 1 at least."""
        return max(1.0, seconds / (self.usual * self.best_s)) if self.best_s > 0 else 1.0

    def loss(self, seconds: float) -> float:
        """Return by which factor operations can be slower while the kernel takes so long."""
        return self.slowdown(seconds) ** self.sensitivity


def core() -> None:
    """Use one core for some 8 us, by arithmetic in registers.

    BLAKE2 uses several units of a core at once, so another user of the core slows it down, and it
    needs no memory. A Python loop is unsuitable: its time differs by up to 1.3 times between
    processes, with the addresses of its objects; this one by 1.005 times.
    """
    for _ in range(4):  # below 2048 bytes, hashlib keeps the interpreter's lock
        hashlib.blake2b(_INPUT, usedforsecurity=False)


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


def bandwidth() -> Callable[[], object]:
    """Return a copy of 16 MiB by one thread, some milliseconds: more than a core's caches."""
    source = np.ones(2**21)
    return functools.partial(np.copyto, np.empty_like(source), source)


def all_kernels() -> list[ReferenceKernel]:
    """Return every reference kernel that this process can use. A new kernel is one entry here.

    Limits: on two quiet virtual cores, `throughput` takes 1.00 to 1.02 times its best, and 1.25 to
    1.6 if another process uses part of either core. `synchronisation` takes 2.3 us with a cache
    that both cores share, 4.3 us without, up to 3.4 us on a quiet machine.

    Sensitivity: beside a neighbour on the same physical cores, arithmetic in registers took 1.3 to
    1.4 times as long, calls of torch and Python up to 1.9 times (docs/method.md).
    """
    kernels = [
        ReferenceKernel("core", core, 1.2, "slow_core", sensitivity=2),
        ReferenceKernel(
            "synchronisation", synchronisation(), 1.5, "slow_synchronisation", True, usual=1.08
        ),
        ReferenceKernel("throughput", throughput(), 1.15, "slow_throughput", True, sensitivity=2),
        ReferenceKernel("bandwidth", bandwidth(), 1.5, "slow_memory", None, once_a_visit=True),
    ]
    several = torch.get_num_threads() > 1
    return [kernel for kernel in kernels if several or not kernel.several_threads]


@dataclass(frozen=True)
class ReferenceKernels:
    """The reference kernels of a run."""

    kernels: Sequence[ReferenceKernel] = ()
    #: Those whose time in the cache contradicts what was measured: all of it was thrown away.
    absurd: Sequence[str] = ()

    def __iter__(self) -> Iterator[ReferenceKernel]:
        return iter(self.kernels)

    def of_threads(self, several: bool) -> "ReferenceKernels":
        """Return the kernels for an operation on several threads, or on one.

        With all cores at work, each may have a lower clock than one alone. That is no disturbance,
        so the kernels of one thread do not apply to several.
        """
        return ReferenceKernels([k for k in self if k.several_threads in (several, None)])

    def named(self, names: Container[str]) -> list[ReferenceKernel]:
        """Return the kernels with one of these names."""
        return [kernel for kernel in self if kernel.name in names]

    def without_long(self) -> "ReferenceKernels":
        """Return the kernels that take microseconds only."""
        return ReferenceKernels([kernel for kernel in self if not kernel.once_a_visit])

    def of_device(self, device: str = "") -> "ReferenceKernels":
        """Return the kernels for the host, or for an accelerator and the thread that launches.

        On macOS only that of the accelerator: after a wait, the thread may continue on an
        efficiency core.
        """
        own = [kernel for kernel in self if kernel.device == device]
        if device and sys.platform != "darwin":
            own += [k for k in self if k.several_threads is False and not k.once_a_visit]
        return ReferenceKernels(own)

    def load(self, known: Mapping[str, float], stolen: float = 0.0) -> "ReferenceKernels":
        """Use the best times of earlier processes, by name, unless one is absurdly short.

        None of them is a time of this machine then. `stolen` is the share of the search that other
        processes took. If that is much, threads wait for each other, and milliseconds of work are
        interrupted: only a slow kernel of one thread and some microseconds contradicts the cache.
        """
        absurd = [
            kernel.name
            for kernel in self
            if known.get(kernel.name, math.inf) <= kernel.best_s / calibration.ABSURD < math.inf
            and not ((kernel.several_threads or kernel.once_a_visit) and stolen >= DOUBTFUL)
        ]
        for kernel in self:
            if not absurd:
                kernel.best_s = min(kernel.best_s, known.get(kernel.name, math.inf))
        return replace(self, absurd=absurd)

    def store(self, key: str) -> None:
        """Keep the best times for later processes."""
        bests = {kernel.name: kernel.best_s for kernel in self}
        calibration.keep(key, bests, discard=bool(self.absurd))


def accelerator(device: Device) -> ReferenceKernel:
    """Return some milliseconds of matrix products on an accelerator.

    They show its clock and its other users. A GPU slows down when it is hot or at the limit of its
    power; that of a laptop by half after minutes.
    """

    def work() -> None:
        device.long_work()
        device.synchronize()

    made = ReferenceKernel(f"device {device.name}", work, 1.1, "slow_device", None, True)
    made.device, made.now = device.name, device.now
    return made


def prepare(key: str, accelerators: Iterable[Device] = ()) -> ReferenceKernels:
    """Return all reference kernels with their best times; `key` names the machine in the cache.

    Searching the best time of an accelerator also brings its clock up.
    """
    made = ReferenceKernels([*all_kernels(), *map(accelerator, accelerators)])
    known = calibration.known(key)
    for kernel in made:
        kernel.read()  # starts the threads that are observed during the search
    times, started = ThreadTimes(), time.perf_counter()
    times.discover()
    before_s = times.read().waited_s or 0.0
    for kernel in made:
        kernel.search(SEARCH_KNOWN_S if kernel.name in known else SEARCH_S)
    waited_s = (times.read().waited_s or 0.0) - before_s
    times.close()
    return made.load(known, waited_s / (time.perf_counter() - started))
