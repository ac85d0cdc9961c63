"""DataLoaders whose workers end with the cell, and the check of what they deliver in a pass."""

import contextlib
import gc
import math
import multiprocessing
import os
import signal
import sys
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader

from bench.measure import arrays
from bench.measure.answer import Answer
from bench.suite.loading.data import decoded, label_of, number_of

#: The start methods of processes on this platform, its default first.
START_METHODS = tuple(multiprocessing.get_all_start_methods())
#: Seconds that workers have to end by themselves.
GRACE_S = 10


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


class Batches:
    """The batches of a DataLoader, epoch after epoch, until it is closed.

    The workers of a DataLoader end with the last reference to it. This object has the only one, so
    that no frame, closure or traceback keeps them alive.
    """

    def __init__(self, loader):
        self._loader = loader

    def __iter__(self):
        return iter(self._loader)

    def __deepcopy__(self, _):
        """Return itself: a copy would start its own workers."""
        return self

    def close(self):
        """Delete the loader."""
        self._loader = ()
        gc.collect()


@contextlib.contextmanager
def loader_of(dataset, **settings):
    """Yield the batches of a DataLoader, whose workers end before the context does.

    Settings that need workers are ignored without workers.
    """
    if settings.get("num_workers", 0) == 0:
        for name in ("multiprocessing_context", "persistent_workers"):
            settings.pop(name, None)
    before = _children()
    batches = Batches(DataLoader(dataset, **settings))
    try:
        yield batches
    finally:
        batches.close()
        _, left = psutil.wait_procs(_without_helpers(_children() - before), timeout=GRACE_S)
        if left:
            _kill(left)


def _kill(processes):
    """Kill workers that do not end, and wait for their end.

    PyTorch's handler of SIGCHLD raises RuntimeError when a worker is killed, in the place of what
    the cell has raised; it is not in place meanwhile.
    """
    has_signal = sys.platform != "win32"
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if has_signal else None
    try:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)
    finally:
        if has_signal:
            signal.signal(signal.SIGCHLD, handler)


def _without_helpers(processes):
    """Leave out the servers of multiprocessing, which the next cell uses too."""
    workers = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            # The workers of a fork server have its command line too.
            is_server = "forkserver" in words and process.ppid() == os.getpid()
            if "resource_tracker" not in words and not is_server:
                workers.append(process)
    return workers


def memory_of_workers() -> int | None:
    """Return the unshared memory of the live workers in bytes, on macOS all; None without any."""
    total = 0
    for process in _without_helpers(_children()):
        with contextlib.suppress(psutil.Error):
            # On macOS, asking for the unshared memory can block forever.
            mac = sys.platform == "darwin"
            total += process.memory_info().rss if mac else process.memory_full_info().uss
    return total or None


def one_epoch(loader):
    """Fetch every batch of a loader."""
    for _ in loader:
        pass


class FirstBatch:
    """Starts workers and fetches one batch; ending the workers is not a part of the call."""

    def __init__(self, dataset, settings):
        self._dataset, self._settings, self._iterator = dataset, settings, None

    def __call__(self):
        """Start the workers, and return their first batch."""
        self._iterator = iter(DataLoader(self._dataset, **self._settings))
        return next(self._iterator)

    def close(self):
        """End the workers of the last call."""
        self._iterator = None
        gc.collect()


class Pass:
    """What a loop over batches or samples gets, kept as it passes, and the ids of its workers."""

    def __init__(self, source=(), seen=()):
        self._source, self.seen, self.workers = source, list(seen), set()

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        self.seen.append(self._source[index])
        return self.seen[-1]

    def __iter__(self):
        for batch in self._source:
            if not self.seen:
                self.workers = {process.pid for process in multiprocessing.active_children()}
            self.seen.append(batch)
            yield batch


def watched(operation, source, *args):
    """Call an operation on a data set or its batches; return the `Pass`."""
    passed = Pass(source)
    operation(passed, *args)
    return passed


def delivers(
    folder, count, batch, workers=0, shuffled=False, kept=False, change=lambda label: label
):
    """Return a check of the batches of a pass: how many, their size, order, images, and labels.

    Images are compared with those that Pillow decodes from the files of `folder`, and their numbers
    with those in order, or with any other order if `shuffled`. Each pass has the same workers if
    they are `kept`, otherwise others, and another order if `shuffled`.
    """
    before: list[Any] = []
    images = decoded(folder)
    wanted = [number % len(images) for number in range(count)]

    def check(passed, *_):
        sizes = [len(labels) for _, labels in passed.seen]
        whole, rest = divmod(count, batch)
        if sizes != [batch] * whole + [rest] * bool(rest):
            return Answer(fault=f"{len(sizes)} batches of {sorted(set(sizes))} images")
        if len(passed.workers) != workers:
            return Answer(fault=f"{len(passed.workers)} workers, not {workers}")
        if workers and before and kept != (passed.workers == before[0][0]):
            return Answer(fault="the workers ended" if kept else "the workers are still the same")
        numbers = wanted
        if shuffled:
            numbers = [number_of(image) for images, _ in passed.seen for image in images]
            if numbers == wanted or sorted(numbers) != sorted(wanted):
                return Answer(fault="the images are not each of them once, in another order")
            # Of random orders, one in 1e8 has such a correlation, and fewer so many equal steps.
            steps = np.bincount(np.diff(numbers) % len(images))
            related = abs(np.corrcoef(numbers, wanted)[0, 1]) * math.sqrt(count) > 6
            if related or steps.max() > 8 * (1 + count / len(images)):
                return Answer(fault="the order of the images is hardly random")
            if before and numbers == before[0][1]:
                return Answer(fault="the images are in the same order as before")
        before[:] = [(passed.workers, numbers)]
        labels = np.concatenate([arrays.numbers(labels) for _, labels in passed.seen])
        kinds = {labels.dtype for _, labels in passed.seen if isinstance(labels, torch.Tensor)}
        if kinds - {torch.int64}:
            return Answer(fault=f"labels of {kinds}, not torch.int64")
        wrong = np.flatnonzero(labels != [change(label_of(number)) for number in numbers])
        if wrong.size:
            return Answer(fault=f"image {numbers[wrong[0]]} came with label {labels[wrong[0]]}")
        got = torch.cat([images for images, _ in passed.seen]).cpu().numpy()
        right = got.dtype == np.uint8 and np.array_equal(got, images[numbers])
        return Answer(fault="" if right else "an image is not that of its file in this place")

    return check


def one_by_one(check):
    """Return the check of batches for the samples of a pass: each is a batch of one."""

    def check_samples(passed, *_):
        passed.seen = [(image[None], [label]) for image, label in passed.seen]
        return check(passed)

    return check_samples
