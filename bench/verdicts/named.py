"""The benchmarks that rules and pictures name; a test checks that the suite has each."""

from collections.abc import Iterable
from typing import NamedTuple

from bench.compare.cells import Cell


class Named(NamedTuple):
    """A benchmark, and the params that its reader needs."""

    family: str
    benchmark: str
    params: tuple[str, ...] = ()

    def among(self, found: Iterable[Cell]) -> list[Cell]:
        """Return the cells of this benchmark that have its params."""
        return [
            cell
            for cell in found
            if (cell.family, cell.benchmark) == self[:2] and cell.params.keys() >= {*self.params}
        ]


ADD = Named("tensors", "add", ("form", "n"))
COPY = Named("tensors", "copy")
MATMUL = Named("tensors", "matmul", ("n",))
TENSOR_FROM_ARRAY = Named("tensors", "tensor_from_array", ("n",))
FROM_NUMPY = Named("tensors", "from_numpy", ("n",))
LOADER = Named("loading", "loader", ("batch", "workers"))
FORWARD = Named("training", "forward", ("batch",))
STEP = Named("training", "step", ("batch",))
AUTOCAST = Named("training", "autocast_step", ("batch",))
COMPILED = Named("training", "compiled", ("batch", "compiled"))
FORWARD_BACKWARD = Named("training", "forward_backward", ("batch", "parameters"))
FASHION = Named("loading", "fashion_mnist", ("target",))
START_METHOD = Named("loading", "loader_start_method", ("start",))
PERSISTENT = Named("loading", "loader_persistent_workers", ("persistent",))
PINNED = Named("loading", "loader_to_device", ("pin_memory",))
STEP_PART = Named("training", "step_part", ("part",))
OPTIMIZER_STEP = Named("training", "optimizer_step", ("implementation", "optimizer"))
#: The link between host and device bounds these, not the memory of the device.
CROSSING = (
    Named("tensors", "host_to_device"),
    Named("tensors", "device_to_host"),
    Named("tensors", "uint8_images"),
)
OPERATOR = Named("model", "operator", ("model", "operator", "shapes", "uses"))
