"""Values with the variance of the error that roundings make of each.

A rounding moves a value by up to half an ulp, evenly: ulp**2 / 12. A sum of n terms, whose partial
sums are rounded with u, has a standard deviation of at most sqrt(n) u (abs(r) + T) / 2, see
`bench.measure.references`. Exact weights carry a variance on by their squares (Higham and Mary,
"Sharper probabilistic backward error analysis for basic linear algebra kernels with random data",
SIAM J. Sci. Comput. 42(5), 2020).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.measure.arrays import Array, accumulator, ulp, unit
from bench.measure.references import Reference, allowed, scale, sixteen_bit

#: No element may be off by more standard deviations.
SIGMAS = 6


@dataclass(frozen=True)
class Rough:
    """Values, and the variance of the error of each."""

    value: Array
    variance: Array

    @classmethod
    def exact(cls, value: Array) -> "Rough":
        """Return values without an error."""
        return cls(value, np.zeros(value.shape))

    def __add__(self, other: "Rough") -> "Rough":
        """Return the sum of values whose errors are independent."""
        return Rough(self.value + other.value, self.variance + other.variance)

    def __mul__(self, other: "Rough") -> "Rough":
        """Return the product of values whose errors are independent."""
        variance = other.value**2 * self.variance + self.value**2 * other.variance
        return Rough(self.value * other.value, variance)

    @property
    def size(self) -> Array:
        """The magnitude of each value."""
        return np.abs(self.value)

    @property
    def deviation(self) -> Array:
        """The standard deviation of each value."""
        return np.sqrt(self.variance)


@dataclass(frozen=True)
class Arithmetic:
    """The roundings of a dtype on a device.

    The loss may be computed in another dtype, and `loss_scale` multiply the gradients meanwhile.
    """

    dtype: torch.dtype
    device: torch.device
    of_loss: torch.dtype | None = None
    loss_scale: float = 1.0

    def narrow(self, values: Array) -> Array:
        """Return numbers in the type in which variances are computed."""
        return values.astype(np.float64 if self.dtype == torch.float64 else np.float32, copy=False)

    @property
    def both(self) -> int:
        """How many sides have the errors of the dtype: in float64, the reference has them too."""
        return 2 if self.dtype == torch.float64 else 1

    def rounding(self, values: Array, factor: float = 1.0) -> Array:
        """Return the variance of one rounding of each value; `factor` scales them before it."""
        return self.narrow(self.both * (ulp(values * factor, self.dtype) / factor) ** 2 / 12)

    def logarithm(self, values: Array) -> Array:
        """Return the variance of a logarithm of 2 ulp: twice the deviation of a rounding."""
        return self.narrow(ulp(values, self.of_loss or self.dtype) ** 2 / 3)

    def rounded(self, found: Rough) -> Rough:
        """Return values that are rounded once more."""
        return Rough(found.value, found.variance + self.rounding(found.value))

    def sums(self, terms: int) -> float:
        """Return the factor of r**2 + T**2 in the variance of a sum."""
        deviation = self.both * math.sqrt(terms) * accumulator(self.dtype) / 2
        if sixteen_bit(self.dtype, self.device):
            deviation += math.sqrt(terms / 16) * unit(self.dtype) / 2
        return 2 * deviation**2

    def product(self, left: Rough, right: Array) -> Rough:
        """Return the product with an exact matrix, before it is rounded."""
        value, factor = left.value @ right, self.sums(right.shape[-2])
        squares = left.variance + factor * self.narrow(left.value) ** 2
        variance = squares @ self.narrow(right) ** 2 + factor * self.narrow(value) ** 2
        return Rough(value, variance)

    def outer(self, left: Rough, right: Rough) -> Rough:
        """Return left.T @ right, rounded. Errors of the two sides may depend on each other."""
        value, factor = left.value.T @ right.value, self.sums(len(left.value))
        a, b = (self.narrow(one.value) ** 2 for one in (left, right))
        squares = np.concatenate([2 * left.variance, a])
        others = np.concatenate([b + right.variance, 2 * right.variance + factor * b])
        variance = squares.T @ others + factor * self.narrow(value) ** 2
        return Rough(value, variance + self.rounding(value, self.loss_scale))

    def reference(self, found: Rough, dtype: torch.dtype | None = None, **facts: Any) -> Reference:
        """Return the reference of values, which may be given in another dtype than computed."""
        bound = SIGMAS * np.sqrt(found.variance.astype(np.float64))
        facts = {"note": allowed(self.dtype, self.device)} | facts
        return Reference(found.value, dtype or self.dtype, bound, scale(self.dtype), **facts)
