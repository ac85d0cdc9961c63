"""The DataLoader: images per second by workers and batch, and the time to start its workers.

With persistent workers each round is an epoch, and their start is in `first_call_s`. Without them
every epoch starts its own workers. An epoch has at least eight batches for each worker, so that all
of them work until its end.
"""

import contextlib
import multiprocessing
import pickle

import pytest
import torch
from torchvision.transforms import Lambda

from bench.measure.answer import Answer
from bench.measure.references import stacked
from bench.suite.axes import NOT_PINNED, accelerator_only, dtypes, host_only, quick, values
from bench.suite.loading.data import SIDE, custom_images, image_folder
from bench.suite.loading.workers import (
    START_METHODS,
    FirstBatch,
    Pass,
    delivers,
    loader_of,
    memory_of_workers,
    one_epoch,
    watched,
)

GROUP = "loading"
pytestmark = dtypes("float32")

YES_NO = ["yes", "no"]
#: Batches of an epoch for each worker, and workers at least for which it has them.
BATCHES, WORKERS = 8, 4
FILES = "jpeg"


def epoch_of(cell, batch_size, num_workers, **settings):
    """Return the loader of an epoch with enough batches, and a check of a pass over it."""
    if num_workers:
        cell.uses_processes()
    count = BATCHES * max(num_workers, WORKERS) * batch_size - 1  # the last batch is smaller
    settings |= {"batch_size": batch_size, "num_workers": num_workers}
    cell.work(items=count, unit="image", bytes=count * 3 * SIDE * SIDE)
    loader = cell.enter(loader_of(custom_images(FILES, count=count), **settings))
    facts = (num_workers, settings.get("shuffle", False), settings.get("persistent_workers", False))
    return loader, delivers(image_folder(FILES), count, batch_size, *facts)


def time_epochs(cell, **settings):
    """Time whole epochs of a loader, and check what an epoch delivers."""
    loader, check = epoch_of(cell, **settings)

    def check_and_measure_memory(passed, *_):
        cell.result.peak_bytes = memory_of_workers()
        return check(passed)

    cell(one_epoch, loader, trial=watched, check=check_and_measure_memory)


@quick(batch=(32,), workers=(0, 2, 4))
@host_only
@pytest.mark.parametrize("workers", values((0, 1, 2, 4), full=(8,)))
@pytest.mark.parametrize("batch", values((8, 32), full=(2, 128)))
def bench_loader(cell, workers, batch):
    time_epochs(cell, num_workers=workers, batch_size=batch, persistent_workers=True)


TWO = {"num_workers": 2, "batch_size": 32}


@host_only
@pytest.mark.parametrize("start", values((), full=START_METHODS))
@pytest.mark.parametrize("persistent", YES_NO)
def bench_loader_start_method(cell, start, persistent):
    keep = persistent == "yes"
    time_epochs(cell, **TWO, multiprocessing_context=start, persistent_workers=keep)


@host_only
@pytest.mark.parametrize("persistent", YES_NO)
def bench_loader_persistent_workers(cell, persistent):
    time_epochs(cell, **TWO, persistent_workers=persistent == "yes")


@host_only
@pytest.mark.parametrize("shuffle", YES_NO)
def bench_loader_shuffle(cell, shuffle):
    time_epochs(cell, **TWO, persistent_workers=True, shuffle=shuffle == "yes")


def epoch_on_device(loader, device, wait, take):
    for batch in loader:
        take([part.to(device, non_blocking=not wait) for part in batch])


def leave(_):
    pass


def arrivals(operation, loader, device, wait, _):
    """Return the pass whose batches are those on the device."""
    passed, there = Pass(loader), Pass()
    operation(passed, device, wait, there.seen.append)
    passed.seen = there.seen
    return passed


def on(device, check):
    """Return the check of a pass, and that its batches are on the device."""

    def check_there(passed, *args):
        there = all(part.device.type == device.type for batch in passed.seen for part in batch)
        found = check(passed, *args)
        return found if there else Answer(fault=f"batches are not on {device}")

    return check_there


@accelerator_only
@pytest.mark.parametrize("pin_memory", YES_NO)
def bench_loader_to_device(cell, pin_memory):
    pin = pin_memory == "yes"
    if pin and cell.device.type in NOT_PINNED:
        raise NotImplementedError(f"memory is not pinned for {cell.device.type}")
    loader, check = epoch_of(cell, **TWO, persistent_workers=True, pin_memory=pin)
    there, check = (loader, cell.device, not pin, leave), on(cell.device, check)
    cell(epoch_on_device, *there, trial=arrivals, check=check)


def as_pass(check, start):
    """Return a check of one batch, whose workers were started by the method `start`."""
    kind = multiprocessing.get_context(start).Process

    def check_batch(batch, *_):
        started = any(isinstance(one, kind) for one in multiprocessing.active_children())
        return check(Pass(seen=[batch])) if started else Answer(fault=f"not started by {start}")

    return check_batch


def first_of(cell, dataset, workers, start):
    """Declare the start of workers and their first batch; return the call of it."""
    cell.uses_processes()
    cell.work(items=32, unit="image", bytes=32 * 3 * SIDE * SIDE)
    settings = {"num_workers": workers, "batch_size": 32, "multiprocessing_context": start}
    return cell.enter(contextlib.closing(FirstBatch(dataset, settings)))


@host_only
@pytest.mark.parametrize("start", values(START_METHODS[:1], full=START_METHODS[1:]))
def bench_first_batch(cell, start):
    first = first_of(cell, custom_images(FILES), 2, start)
    cell(first, prepare=first.close, check=as_pass(delivers(image_folder(FILES), 32, 32), start))


def plus_one(label):
    return label + 1


def take_first(first):
    try:
        return first()
    except (AttributeError, TypeError, pickle.PicklingError) as problem:
        raise NotImplementedError(
            f"a lambda cannot be sent to a worker ({problem}): use a function of a module, "
            "or the start method fork if available"
        ) from problem


@host_only
@pytest.mark.parametrize("start", values(START_METHODS[:2], full=START_METHODS[2:]))
@pytest.mark.parametrize("transform", values(("lambda",), full=("function",)))
def bench_lambda_in_worker(cell, transform, start):
    """Only the start method fork works with a lambda, which cannot be pickled."""
    encode = Lambda(lambda label: label + 1) if transform == "lambda" else Lambda(plus_one)
    first = first_of(cell, custom_images(FILES, target_transform=encode), 1, start)
    check = as_pass(delivers(image_folder(FILES), 32, 32, change=plus_one), start)
    cell(lambda: take_first(first), prepare=first.close, check=check)


@host_only
@pytest.mark.parametrize("batch", [64])
def bench_collate(cell, batch):
    images = list(cell.tensor(batch, 3, SIDE, SIDE).unbind())
    cell.work(items=batch, unit="image", bytes=2 * cell.nbytes(batch * 3 * SIDE * SIDE))
    cell(torch.utils.data.default_collate, images, expect=stacked)
