"""Corrections of p-values for a family of tests."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float] | np.ndarray, tests: int = 0) -> np.ndarray:
    """Return p-values corrected by the step-down method of S. Holm, in their order.

    Scandinavian Journal of Statistics 6, 1979. `tests` is the size of the family if these are the
    smallest of it.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    left = max(tests, len(p)) - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, left * p[order]))
    return corrected
