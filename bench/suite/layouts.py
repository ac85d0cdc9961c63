"""The same numbers in other layouts, for benchmarks of several families."""

from typing import Any

import torch

LAYOUTS = ("contiguous", "transposed", "sliced")
#: Layouts of images.
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def laid_out(cell: Any, layout: str, *shape: int, seed: int = 0) -> torch.Tensor:
    """Return a tensor of this shape: `transposed` swaps two axes, `sliced` takes every other."""
    *outer, rows, columns = shape
    made: torch.Tensor
    if layout == "transposed":
        made = cell.tensor(*outer, columns, rows, seed=seed).transpose(-1, -2)
    elif layout == "sliced":
        made = cell.tensor(*outer, rows, 2 * columns, seed=seed)[..., ::2]
    else:
        made = cell.tensor(*shape, seed=seed)
    return made
