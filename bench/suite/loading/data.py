"""Data sets to load: generated image files, and the real or a generated FashionMNIST.

Files are generated once, from a fixed seed, in the user's cache folder, which the nodes of a
cluster may share. Damaged ones are generated again.
"""

import functools
import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset
from torchvision import datasets
from torchvision.io import read_image, write_jpeg, write_png
from torchvision.transforms import ToTensor

from bench.measure.references import Reference

#: Images in a folder, and their height and width in pixels.
IMAGES, SIDE = 256, 64
CLASSES = 10
#: Side of the eight squares in the top row of an image that encode its number in bits. Each covers
#: whole blocks of JPEG, so that compression keeps them black or white.
BIT = 8
#: Part of the folder's name: a change of how files are generated needs another folder.
VERSION = "4"
#: The file in a generated folder that holds the checksum of the others.
_CHECKSUM = "checksum"


def cache() -> Path:
    """Return the folder of the generated files."""
    return Path(platformdirs.user_cache_dir("torch-device-bench")) / VERSION


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`; `make` fills it if it does not exist, or is damaged. Raises OSError.

    `make` fills a temporary folder with a unique name, which is then renamed: an existing folder is
    complete, and no file in it changes while another process times it.
    """
    if folder.exists() and _is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as parent:
        unfinished = Path(parent) / folder.name
        unfinished.mkdir()
        make(unfinished)
        (unfinished / _CHECKSUM).write_text(_checksum(unfinished))
        _is_whole.cache_clear()
        try:
            if folder.exists() and not _is_whole(folder):
                folder.rename(Path(parent) / "damaged")
                _is_whole.cache_clear()
            unfinished.rename(folder)
        except OSError:
            # Another process was first, and its files are the same.
            if not folder.is_dir():
                raise
    return folder


def _checksum(folder: Path) -> str:
    """Return a checksum of the names and contents of the files in a folder."""
    found = hashlib.blake2b()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _CHECKSUM:
            found.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size} ".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


@functools.cache
def _is_whole(folder: Path) -> bool:
    """Whether a generated folder is as it was made; a process looks once."""
    try:
        return (folder / _CHECKSUM).read_bytes() == _checksum(folder).encode()
    except OSError:
        return False


def _image(number: int) -> torch.Tensor:
    """Return a smooth random image (3, SIDE, SIDE) of uint8 that encodes `number`."""
    generator = torch.Generator().manual_seed(number)
    coarse = torch.rand(1, 3, SIDE // 8, SIDE // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear")[0]
    image = (smooth * 255).to(torch.uint8)
    for bit in range(8):
        image[:, :BIT, bit * BIT : (bit + 1) * BIT] = 255 * (number >> bit & 1)
    return image


def number_of(image: torch.Tensor) -> int:
    """Return the number that an image (3, SIDE, SIDE) encodes, in uint8 or as floats up to 1."""
    bright = image.float().mean(0)[:BIT] > (127 if image.dtype == torch.uint8 else 0.5)
    squares = bright.float().reshape(BIT, -1, BIT).mean((0, 2))[:8]
    return sum(1 << bit for bit in range(8) if squares[bit] > 0.5)


def label_of(number: int) -> int:
    """Return the label of the image with that number."""
    return number * 7 % CLASSES


def image_folder(kind: str) -> Path:
    """Return a folder of `IMAGES` files of `kind` (``png`` or ``jpeg``) and ``labels.csv``."""

    def make(folder: Path) -> None:
        write = write_png if kind == "png" else write_jpeg
        rows = []
        for number in range(IMAGES):
            name = f"{number:03}.{kind}"
            write(_image(number), str(folder / name))
            rows.append((name, label_of(number)))
        pd.DataFrame(rows, columns=["file", "label"]).to_csv(folder / "labels.csv", index=False)

    return _made_once(cache() / kind, make)


@functools.cache
def decoded(folder: Path) -> np.ndarray:
    """Return the images of a folder as Pillow decodes them, (count, 3, SIDE, SIDE) of uint8."""
    images = []
    for path in sorted(folder.glob("[0-9]*")):
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return np.stack(images)


class CustomImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images on disk, with the columns file and label in a CSV."""

    def __init__(self, annotations_file, img_dir, transform=None, target_transform=None):
        self.img_labels = pd.read_csv(annotations_file)
        self.img_dir = img_dir
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self):
        return len(self.img_labels)

    def __getitem__(self, idx):
        """Return an image (3, height, width) of uint8 and its label, each transformed."""
        image = read_image(os.path.join(self.img_dir, self.img_labels.iloc[idx, 0]))
        label = self.img_labels.iloc[idx, 1]
        if self.transform:
            image = self.transform(image)
        if self.target_transform:
            label = self.target_transform(label)
        return image, label


class BatchedImageDataset(CustomImageDataset):
    """The same data set, which fetches the samples of a batch in one call."""

    def __getitems__(self, indices):
        """Return a list of samples, with one look-up of the annotations."""
        names = self.img_labels.iloc[indices]
        files = (os.path.join(self.img_dir, name) for name in names.iloc[:, 0])
        return list(zip(map(read_image, files), names.iloc[:, 1], strict=True))


def custom_images(
    kind: str = "jpeg",
    dataset: type[CustomImageDataset] | None = None,
    count: int | None = None,
    **transforms: Any,
) -> CustomImageDataset:
    """Return the data set of a generated image folder; its images repeat up to `count`."""
    folder = image_folder(kind)
    made = (dataset or CustomImageDataset)(folder / "labels.csv", str(folder), **transforms)
    if count is not None:
        made.img_labels = made.img_labels.iloc[np.arange(count) % IMAGES]
    return made


def one_hot(label):
    """Return a label as a one-hot vector (10,), by scatter_."""
    return torch.zeros(CLASSES, dtype=torch.float).scatter_(0, torch.tensor(label), value=1)


def one_hot_rows(labels: Any) -> list[Reference]:
    """Return the references of labels as one-hot vectors."""
    return [Reference(row, torch.float32) for row in np.eye(CLASSES)[labels]]


def _write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of uint8 in the format of MNIST: magic number, sizes, bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def made_up_fashion_mnist() -> Path:
    """Return a folder with files of exactly FashionMNIST's format: 60,000 and 10,000 images.

    Each class has its own pattern under noise, so that a network can learn it.
    """

    def make(folder: Path) -> None:
        raw = folder / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        random = np.random.default_rng(2147)
        patterns = random.integers(0, 160, (CLASSES, 28, 28), dtype=np.uint8)
        for part, count in (("train", 60_000), ("t10k", 10_000)):
            labels = random.integers(0, CLASSES, count, dtype=np.uint8)
            images = patterns[labels] + random.integers(0, 96, (count, 28, 28), dtype=np.uint8)
            _write_idx(raw / f"{part}-images-idx3-ubyte", images)
            _write_idx(raw / f"{part}-labels-idx1-ubyte", labels)

    return _made_once(cache() / "fashion", make)


def raw_fashion_mnist(dataset: datasets.FashionMNIST, count: int) -> tuple[Any, Any]:
    """Return the first images (count, 28, 28) and labels, as the bytes in the files."""
    found = []
    for name, header, size in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)):
        path = Path(dataset.raw_folder) / f"train-{name}-ubyte"
        found.append(np.fromfile(path, np.uint8, count * size, offset=header))
    return found[0].reshape(count, 28, 28), found[1]


def fashion_mnist(cell, target_transform=None):
    """Return FashionMNIST's training set, real or generated as the run asks; note if generated."""
    if cell.data_root is None:
        cell.note("made-up images of FashionMNIST's format")
    return training_images(
        cell.data_root,
        cell.download,
        transform=ToTensor(),
        target_transform=target_transform,
    )


def training_images(root: Path | None, download: bool = False, **transforms: Any) -> Any:
    """Return FashionMNIST's training set in the folder `root`, or images of its format."""
    root = root or made_up_fashion_mnist()
    return datasets.FashionMNIST(root=str(root), train=True, download=download, **transforms)


def in_memory(root: Path | None) -> TensorDataset:
    """Return the same images (1, 28, 28) from 0 to 1 in float32 and their labels, in memory."""
    images = training_images(root)
    return TensorDataset(images.data[:, None].float() / 255, images.targets)
