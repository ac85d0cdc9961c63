"""The ten dtypes of the suite and the tolerance that follows from each."""

import math

import torch

NAMES = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "bool",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
)


def find(name: str) -> torch.dtype:
    """Return the dtype called `name`; KeyError for any but the ten names."""
    if name not in NAMES:
        raise KeyError(name)
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def name_of(dtype: torch.dtype) -> str:
    """Return ``"float32"`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def tolerance(dtype: torch.dtype, terms: int = 1) -> float:
    """Largest error, relative to the largest element of the answer, that `dtype` explains.

    ``eps * (4 + sqrt(terms))``, where `terms` is how many products or summands each element
    accumulates. Rounding errors behave like independent random variables, so that the error of a
    sum grows with the square root of its length (Higham and Mary, "A new approach to
    probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019); the 4 allows for
    the few roundings, and the library functions good to a few units in the last place, of an
    elementwise operation. Integers and bool must be exact: 0.
    """
    if not dtype.is_floating_point:
        return 0.0
    return torch.finfo(dtype).eps * (4 + math.sqrt(terms))
