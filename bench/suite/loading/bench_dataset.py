"""Reading samples without a DataLoader, by file format: the baseline of the loader."""

import numpy as np
import pytest
import torch
from torchvision.io import read_image
from torchvision.transforms import Lambda

from bench.measure.references import Reference, rounded
from bench.suite.axes import dtypes, host_only, quick
from bench.suite.loading.data import (
    IMAGES,
    SIDE,
    BatchedImageDataset,
    CustomImageDataset,
    custom_images,
    decoded,
    fashion_mnist,
    image_folder,
    one_hot,
    one_hot_rows,
    raw_fashion_mnist,
)
from bench.suite.loading.workers import delivers, loader_of, one_by_one, one_epoch, watched

GROUP = "loading"
pytestmark = [host_only, dtypes("float32")]

FASHION = 1024


@pytest.mark.parametrize("file", ["png", "jpeg"])
def bench_read_image(cell, file):
    path = image_folder(file) / f"007.{file}"
    cell.work(items=1, unit="image", bytes=path.stat().st_size + 3 * SIDE * SIDE)
    wanted = Reference(decoded(path.parent)[7], torch.uint8, contiguous=False)
    cell(read_image, str(path), expect=lambda _: wanted)


def by_index(dataset):
    for index in range(len(dataset)):
        dataset[index]


def declare_files(cell, file):
    """Declare the bytes of reading every file of a folder once, and of the decoded images."""
    read = sum(path.stat().st_size for path in image_folder(file).glob(f"*.{file}"))
    cell.work(items=IMAGES, unit="image", bytes=read + IMAGES * 3 * SIDE * SIDE)


@pytest.mark.parametrize("file", ["png", "jpeg"])
def bench_custom_dataset(cell, file):
    declare_files(cell, file)
    check = one_by_one(delivers(image_folder(file), IMAGES, 1))
    cell(by_index, custom_images(file), trial=watched, check=check)


def first_samples(dataset, count):
    return [dataset[index] for index in range(count)]


def from_file(dataset, count):
    """Return the samples that the bytes of the files give."""
    pixels, labels = raw_fashion_mnist(dataset, count)
    images = [rounded(one[None] / np.float64(255), torch.float32) for one in pixels]
    if dataset.target_transform is None:
        targets = [Reference(np.asarray(one), torch.int64, kind=float) for one in labels]
    else:
        targets = one_hot_rows(labels)
    return list(zip(images, targets, strict=True))


@pytest.mark.parametrize("target", ["index", "one_hot"])
@quick(target=("index",))
def bench_fashion_mnist(cell, target):
    encode = Lambda(one_hot) if target == "one_hot" else None
    cell.work(items=FASHION, unit="image", bytes=FASHION * (28 * 28 * (1 + 4) + 1))
    cell(first_samples, fashion_mnist(cell, encode), FASHION, expect=from_file)


DATASETS = {"getitem": CustomImageDataset, "getitems": BatchedImageDataset}


@pytest.mark.parametrize("fetch", list(DATASETS))
def bench_batched_fetch(cell, fetch):
    loader = cell.enter(loader_of(custom_images(dataset=DATASETS[fetch]), batch_size=64))
    declare_files(cell, "jpeg")
    cell(one_epoch, loader, trial=watched, check=delivers(image_folder("jpeg"), IMAGES, 64))
