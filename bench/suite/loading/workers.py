"""DataLoaders whose workers end with the cell, and the check of what they deliver."""

import contextlib
import gc
import multiprocessing
import os
import sys

import psutil
from torch.utils.data import DataLoader

from bench.measure.answer import Answer
from bench.suite.loading.data import IMAGES, label_of, number_of

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
        """Hold `loader`."""
        self._loader = loader

    def __iter__(self):
        """Start an epoch."""
        return iter(self._loader)

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
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left)


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


def first_batch(dataset, settings):
    """Start the workers, fetch one batch, and end them."""
    iterator = iter(DataLoader(dataset, **settings))
    return next(iterator)


def each_once(count=IMAGES):
    """Return a check that an epoch delivers each image of a folder once, with its own label."""

    def check(_, loader, *__):
        seen = []
        for images, labels in loader:
            for image, label in zip(images, labels, strict=True):
                number = number_of(image)
                seen.append(number)
                if int(label) != label_of(number):
                    return Answer(fault=f"image {number} came with label {int(label)}")
        if sorted(seen) != list(range(count)):
            return Answer(fault=f"{len(seen)} images, {len(set(seen))} different, of {count}")
        return Answer()

    return check
