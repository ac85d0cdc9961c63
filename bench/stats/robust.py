"""The scale of noise, with little influence of outliers."""

from typing import TypeVar

import numpy as np

T = TypeVar("T", float, np.ndarray)

#: Standard deviations of a normal distribution in one median absolute deviation.
NORMAL = 1.4826


def standard_deviation(median_absolute_deviation: T) -> T:
    """Return the standard deviation of normal noise with that median absolute deviation.

    F. R. Hampel, Journal of the American Statistical Association 69, 1974.
    """
    return NORMAL * median_absolute_deviation
