"""Reading samples without a DataLoader, by file format: the baseline of the loader."""

import pytest
from torchvision.io import read_image
from torchvision.transforms import Lambda

from bench.suite.axes import dtypes, host_only
from bench.suite.loading.data import (
    IMAGES,
    SIDE,
    BatchedImageDataset,
    CustomImageDataset,
    custom_images,
    fashion_mnist,
    image_folder,
    one_hot,
)
from bench.suite.loading.workers import each_once, loader_of, one_epoch

GROUP = "loading"

FASHION = 1024


@host_only
@dtypes("float32")
@pytest.mark.parametrize("file", ["png", "jpeg"])
def bench_read_image(cell, file):
    path = image_folder(file) / f"007.{file}"
    cell.work(items=1, unit="image", bytes=path.stat().st_size + 3 * SIDE * SIDE)
    cell(read_image, str(path))


def by_index(dataset):
    for index in range(len(dataset)):
        dataset[index]


def each_indexed(dataset):
    return each_once()(None, [([image], [label]) for image, label in dataset])


@host_only
@dtypes("float32")
@pytest.mark.parametrize("file", ["png", "jpeg"])
def bench_custom_dataset(cell, file):
    cell.work(items=IMAGES, unit="image")
    cell(by_index, custom_images(file), check=lambda _, dataset: each_indexed(dataset))


def first_samples(dataset, count):
    return [dataset[index] for index in range(count)]


@host_only
@dtypes("float32")
@pytest.mark.parametrize("target", ["index", "one_hot"])
def bench_fashion_mnist(cell, target):
    encode = Lambda(one_hot) if target == "one_hot" else None
    cell.work(items=FASHION, unit="image")
    cell(first_samples, fashion_mnist(cell, encode), FASHION)


DATASETS = {"getitem": CustomImageDataset, "getitems": BatchedImageDataset}


@host_only
@dtypes("float32")
@pytest.mark.parametrize("fetch", list(DATASETS))
def bench_batched_fetch(cell, fetch):
    loader = cell.enter(loader_of(custom_images(dataset=DATASETS[fetch]), batch_size=64))
    cell.work(items=IMAGES, unit="image")
    cell(one_epoch, loader, check=each_once())
