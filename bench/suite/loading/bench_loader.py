"""The DataLoader: images per second by workers and batch, and the time to start its workers.

With persistent workers each round is an epoch, and their start is in `first_call_s`. Without them
every epoch starts its own workers.
"""

import pickle

import pytest
import torch
from torchvision.transforms import Lambda

from bench.measure.answer import Answer
from bench.suite.axes import NOT_PINNED, accelerator_only, dtypes, host_only, quick, values
from bench.suite.loading.data import IMAGES, SIDE, custom_images, number_of
from bench.suite.loading.workers import (
    START_METHODS,
    each_once,
    first_batch,
    loader_of,
    memory_of_workers,
    one_epoch,
)

GROUP = "loading"

YES_NO = ["yes", "no"]


def time_epochs(cell, dataset, **settings):
    """Time whole epochs of a loader, and check that an epoch delivers every image once."""
    if settings.get("num_workers"):
        cell.uses_processes()
    loader = cell.enter(loader_of(dataset, **settings))
    cell.work(items=IMAGES, unit="image", bytes=IMAGES * 3 * SIDE * SIDE)
    check = each_once()

    def check_and_measure_memory(result, *_):
        found = check(result, loader)
        cell.result.peak_bytes = memory_of_workers()
        return found

    # A closure, because a copy of the loader would start its own workers.
    cell(lambda: one_epoch(loader), check=check_and_measure_memory)


@quick(batch=(32,), workers=(0, 2, 4))
@host_only
@dtypes("float32")
@pytest.mark.parametrize("workers", values((0, 1, 2, 4), full=(8,)))
@pytest.mark.parametrize("batch", values((8, 32, 128), full=(2,)))
def bench_loader(cell, workers, batch):
    settings = {"num_workers": workers, "batch_size": batch, "persistent_workers": True}
    time_epochs(cell, custom_images(), **settings)


@host_only
@dtypes("float32")
@pytest.mark.parametrize("start", START_METHODS)
@pytest.mark.parametrize("persistent", values(("yes",), full=("no",)))
def bench_loader_start_method(cell, start, persistent):
    time_epochs(
        cell,
        custom_images(),
        num_workers=2,
        batch_size=32,
        multiprocessing_context=start,
        persistent_workers=persistent == "yes",
    )


@host_only
@dtypes("float32")
@pytest.mark.parametrize("persistent", YES_NO)
def bench_loader_persistent_workers(cell, persistent):
    settings = {"num_workers": 2, "batch_size": 32, "persistent_workers": persistent == "yes"}
    time_epochs(cell, custom_images(), **settings)


@host_only
@dtypes("float32")
@pytest.mark.parametrize("shuffle", YES_NO)
def bench_loader_shuffle(cell, shuffle):
    settings = {"num_workers": 2, "batch_size": 32, "persistent_workers": True}
    time_epochs(cell, custom_images(), shuffle=shuffle == "yes", **settings)


def to_device(loader, device, wait):
    for batch in loader:
        yield [part.to(device, non_blocking=not wait) for part in batch]


def epoch_on_device(loader, device, wait):
    for _ in to_device(loader, device, wait):
        pass


def arrives(loader, device, wait):
    """Return the answer of an epoch whose images are read back from the device."""
    copies = to_device(loader, device, wait)
    return each_once()(None, ([part.cpu() for part in batch] for batch in copies))


@accelerator_only
@dtypes("float32")
@pytest.mark.parametrize("pin_memory", YES_NO)
def bench_loader_to_device(cell, pin_memory):
    cell.uses_processes()
    settings = {"num_workers": 2, "batch_size": 32, "persistent_workers": True}
    pin = pin_memory == "yes"
    if pin and cell.device.type in NOT_PINNED:
        raise NotImplementedError(f"memory is not pinned for {cell.device.type}")
    loader = cell.enter(loader_of(custom_images(), pin_memory=pin, **settings))
    cell.work(items=IMAGES, unit="image", bytes=IMAGES * 3 * SIDE * SIDE)
    there = (loader, cell.device, not pin)
    cell(lambda: epoch_on_device(*there), check=lambda *_: arrives(*there))


def is_the_first(batch):
    numbers = [number_of(image) for image in batch[0]]
    return Answer(fault="" if numbers == list(range(32)) else f"images {numbers} came first")


@host_only
@dtypes("float32")
@pytest.mark.parametrize("start", values(START_METHODS[:2], full=START_METHODS[2:]))
def bench_first_batch(cell, start):
    cell.uses_processes()
    settings = {"num_workers": 2, "batch_size": 32, "multiprocessing_context": start}
    cell.work(items=32, unit="image")
    dataset = custom_images()
    cell(lambda: first_batch(dataset, settings), check=is_the_first)


def plus_one(label):
    return label + 1


def take_first(dataset, settings):
    try:
        return first_batch(dataset, settings)
    except (AttributeError, TypeError, pickle.PicklingError) as problem:
        raise NotImplementedError(
            f"a lambda cannot be sent to a worker started by {settings['multiprocessing_context']} "
            f"({problem}): use a function of a module, or the start method fork if available"
        ) from problem


@host_only
@dtypes("float32")
@pytest.mark.parametrize("start", values(START_METHODS[:2], full=START_METHODS[2:]))
@pytest.mark.parametrize("transform", values(("lambda",), full=("function",)))
def bench_lambda_in_worker(cell, transform, start):
    """Only the start method fork works with a lambda, which cannot be pickled."""
    cell.uses_processes()
    encode = Lambda(lambda label: label + 1) if transform == "lambda" else Lambda(plus_one)
    dataset = custom_images(target_transform=encode)
    settings = {"num_workers": 1, "batch_size": 32, "multiprocessing_context": start}
    cell.work(items=32, unit="image")
    cell(lambda: take_first(dataset, settings))


@host_only
@dtypes("float32")
@pytest.mark.parametrize("batch", [64])
def bench_collate(cell, batch):
    images = list(cell.tensor(batch, 3, SIDE, SIDE).unbind())
    cell.work(items=batch, unit="image", bytes=2 * cell.nbytes(batch * 3 * SIDE * SIDE))
    cell(torch.utils.data.default_collate, images)
