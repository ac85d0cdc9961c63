"""Right kernels that round differently: sums whose partial sums are rounded every so many terms.

`PartialSums` replaces matrix products, linear layers and sums, with their gradients, while it is
entered; the terms between two roundings are added up in float64.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: Terms between two roundings.
TERMS = (8, 16, 32, 64, 128)


def product(x: torch.Tensor, y: torch.Tensor, every: int, of: torch.dtype) -> torch.Tensor:
    """Return x @ y, with partial sums in `of` that are rounded after `every` terms."""
    wide_x, wide_y, total = x.double(), y.double(), torch.zeros(())
    for start in range(0, x.shape[-1], every):
        part = slice(start, start + every)
        total = (total.double() + wide_x[..., part] @ wide_y[..., part, :]).to(of)
    return total.to(x.dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, every: int, of: torch.dtype) -> torch.Tensor:
        """Keep the factors for the gradients."""
        ctx.save_for_backward(x, y)
        ctx.how = every, of
        return product(x, y, every, of)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Return the gradients of both factors, which are products too."""
        x, y = ctx.saved_tensors
        return product(grad, y.mT, *ctx.how), product(x.mT, grad, *ctx.how), None, None


class PartialSums(TorchFunctionMode):
    """Rounds partial sums of every floating-point product and sum after `every` terms.

    They are kept in `of`, by default in float32. `applied` is whether there was one.
    """

    def __init__(self, every: int, of: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.every, self.of, self.applied = every, of, False

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace the functions of `KERNELS`."""
        kernel = KERNELS.get(function)
        numbers = [one for one in args if isinstance(one, torch.Tensor)]
        plain = any(not x.is_floating_point() or x.dtype == torch.float64 for x in numbers)
        if kernel is None or plain:
            return function(*args, **kwargs or {})
        self.applied = True
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            args = [x.to(dtype) if isinstance(x, torch.Tensor) else x for x in args]
        return kernel(self, *args, **kwargs or {})

    def product(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        """Return x @ y."""
        return _Product.apply(x, y, self.every, self.of)  # type: ignore[no-untyped-call]

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        """Return x @ weight.T + bias."""
        return self.product(x, weight.t()) + bias

    def contracted(self, _: str, x: torch.Tensor, y: torch.Tensor) -> Any:
        """Return ``bhqd,bhkd->bhqk``."""
        return self.product(x, y.mT)

    def sum(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the sum along `dim`."""
        rows = x.movedim(dim, -1)
        ones = torch.ones(rows.shape[-1], 1, dtype=x.dtype)
        return product(rows, ones, self.every, self.of)[..., 0]


KERNELS: dict[Any, Callable[..., Any]] = {
    torch.matmul: PartialSums.product,
    torch.Tensor.matmul: PartialSums.product,
    torch.Tensor.__matmul__: PartialSums.product,
    torch.bmm: PartialSums.product,
    torch.nn.functional.linear: PartialSums.linear,
    torch.einsum: PartialSums.contracted,
    torch.sum: PartialSums.sum,
}
