"""The ten dtypes of the suite, and the error that the rounding of each may cause."""

import math

import torch

NAMES = (
    *("float32", "float64", "float16", "bfloat16", "bool"),
    *("int8", "uint8", "int16", "int32", "int64"),
)


def find(name: str) -> torch.dtype:
    """Return the dtype called `name`. Raises KeyError for any other than the ten names."""
    if name not in NAMES:
        raise KeyError(name)
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def tolerance(dtype: torch.dtype, terms: int = 1) -> float:
    """Return the largest error, relative to the largest element, that rounding in `dtype` explains.

    ``eps * (4 + sqrt(terms))``, where `terms` is how many products or summands each element
    accumulates. Rounding errors behave like independent random variables, so the error of a sum
    grows with the square root of its length (Higham and Mary, "A new approach to probabilistic
    rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019). The 4 covers an elementwise
    operation: a few roundings, and library functions with errors of a few units in the last place.
    Integers and bool must be exact: 0.
    """
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0
    return torch.finfo(dtype).eps * (4 + math.sqrt(terms))
