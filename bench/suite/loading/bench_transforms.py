"""Transforms of images and labels: to tensors, one-hot, torchvision's v1 compared with v2."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

from bench.measure.arrays import double, ulp, ulps
from bench.measure.references import Reference
from bench.suite.axes import dtypes, host_only
from bench.suite.loading.data import CLASSES, SIDE, image_folder, label_of, one_hot, one_hot_rows

GROUP = "loading"

LABELS = 64
BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pil_image():
    from PIL import Image

    with Image.open(image_folder("png") / "007.png") as image:
        return image.convert("RGB")


TO_TENSOR = {
    "v1": transforms.ToTensor(),
    "v2": v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
}


def pixels(image):
    """Return an image as a tensor of numbers up to 1: a product and its factor are rounded."""
    values = np.asarray(image).transpose(2, 0, 1) / 255
    return Reference(values, torch.float32, ulps(2, torch.float32), contiguous=False)


@host_only
@dtypes("float32")
@pytest.mark.parametrize("api", list(TO_TENSOR))
def bench_to_tensor(cell, api):
    count = 3 * SIDE * SIDE
    cell.work(items=1, unit="image", bytes=count + cell.nbytes(count))
    cell(TO_TENSOR[api], pil_image(), expect=pixels)


ENCODERS = {
    "scatter_per_label": lambda labels: [one_hot(label) for label in labels],
    "one_hot_per_label": lambda labels: [
        nn.functional.one_hot(torch.tensor(label), CLASSES).float() for label in labels
    ],
    "one_hot_per_batch": lambda labels: (
        nn.functional.one_hot(torch.tensor(labels), CLASSES).float().unbind()
    ),
}


@host_only
@dtypes("float32")
@pytest.mark.parametrize("encoder", list(ENCODERS))
def bench_one_hot(cell, encoder):
    labels = [label_of(number) for number in range(LABELS)]
    cell.work(items=LABELS, unit="label", bytes=cell.nbytes(LABELS * CLASSES))
    cell(ENCODERS[encoder], labels, expect=one_hot_rows)


EDGE = 8
PIPELINES = {
    "v1": transforms.Compose(
        [transforms.CenterCrop(SIDE - 2 * EDGE), transforms.Normalize(MEAN, STD)]
    ),
    "v2": v2.Compose([v2.CenterCrop(SIDE - 2 * EDGE), v2.Normalize(MEAN, STD)]),
}


def cropped(_, images):
    """Return the middle of the images, normalised: a difference and a quotient are rounded."""
    mean, std = (double(torch.tensor(one, dtype=images.dtype)) for one in (MEAN, STD))
    difference = double(images)[:, :, EDGE:-EDGE, EDGE:-EDGE] - mean[:, None, None]
    exact = difference / std[:, None, None]
    bound = ulp(difference, images.dtype) / 2 / std[:, None, None] + ulp(exact, images.dtype)
    return Reference(exact, images.dtype, bound)


PER = {
    "image": lambda pipeline, images: torch.stack([pipeline(image) for image in images]),
    "batch": lambda pipeline, images: pipeline(images),
}


@pytest.mark.parametrize("per", list(PER))
@pytest.mark.parametrize("api", list(PIPELINES))
def bench_crop_and_normalize(cell, api, per):
    images = cell.tensor(BATCH, 3, SIDE, SIDE)
    count = BATCH * 3 * (SIDE - 2 * EDGE) ** 2
    cell.work(items=BATCH, unit="image", bytes=2 * cell.nbytes(count))
    cell(PER[per], PIPELINES[api], images, expect=cropped)
