"""The precision of products in float32: full, unless a benchmark asks for TF32.

TF32 rounds the factors to 11 bits. A container can turn it on for every product
(``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1``), and convolutions use it by default.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

#: The first NVIDIA GPUs with TF32: Ampere.
AMPERE = (8, 0)


def full() -> None:
    """Compute products and convolutions of float32 in full precision from now on."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def uses_tf32() -> bool:
    """Return whether products in float32 may be computed in TF32 now."""
    return bool(torch.backends.cuda.matmul.allow_tf32)


@contextlib.contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Compute products in TF32 while the context lasts.

    Raises NotImplementedError if the device has no TF32.
    """
    if device.type != "cuda" or not torch.version.cuda:
        raise NotImplementedError(f"{device.type} has no TF32")
    if torch.cuda.get_device_capability(device) < AMPERE:
        raise NotImplementedError(f"{torch.cuda.get_device_name(device)} has no TF32")
    flags: Any = torch.backends.cuda.matmul
    before, flags.allow_tf32 = flags.allow_tf32, True
    try:
        yield
    finally:
        flags.allow_tf32 = before
