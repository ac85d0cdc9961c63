"""Host to device and back, and conversion between dtypes.

Every byte is read on one side and written on the other. The check compares all values, because
non-blocking copies have corrupted data on MPS.
"""

import pytest
import torch

from bench.measure.proofs import wrote
from bench.measure.references import converted, on_host, same
from bench.suite.axes import ALL, accelerator_only, dtypes, quick, values

GROUP = "transfers"

SIZES = values((2**4, 2**16, 2**22, 2**25), full=(2**12, 2**20))


def host_tensor(cell, n, memory):
    host = cell.tensor(n).cpu()
    if memory == "pinned" and cell.device.type == "mps" and torch.__version__ < "2.15":
        raise NotImplementedError("memory is not pinned for mps before torch 2.15")
    return host.pin_memory() if memory == "pinned" else host


@quick(n=(2**22,), dtype=("float32",))
@accelerator_only
@dtypes(*ALL)
@pytest.mark.parametrize("mode", ["blocking", "non_blocking"])
@pytest.mark.parametrize("memory", ["pageable", "pinned"])
@pytest.mark.parametrize("n", SIZES)
def bench_host_to_device(cell, n, memory, mode):
    host, wait = host_tensor(cell, n, memory), mode == "non_blocking"
    cell.work(items=n, bytes=cell.nbytes(2 * n))
    cell(torch.Tensor.to, host, cell.device, non_blocking=wait, expect=same)


@accelerator_only
@dtypes(*ALL)
@pytest.mark.parametrize("mode", ["blocking", "non_blocking"])
@pytest.mark.parametrize("memory", ["pageable", "pinned"])
@pytest.mark.parametrize("n", SIZES)
def bench_device_to_host(cell, n, memory, mode):
    source, wait = cell.tensor(n), mode == "non_blocking"
    host = torch.zeros_like(host_tensor(cell, n, memory), pin_memory=memory == "pinned")
    cell.work(items=n, bytes=cell.nbytes(2 * n))
    cell(torch.Tensor.copy_, host, source, non_blocking=wait, expect=on_host, proof=wrote)


CASTS = {
    "before_transfer": lambda x, dtype, device: x.to(dtype).to(device),
    "after_transfer": lambda x, dtype, device: x.to(device).to(dtype),
}


@accelerator_only
@pytest.mark.parametrize("cast", list(CASTS))
@pytest.mark.parametrize("n", SIZES)
def bench_uint8_images(cell, n, cast):
    pixels = 5 * cell.tensor(n, dtype=torch.uint8).cpu()  # modulo 256, up to 255
    cell.work(items=n, unit="pixel", bytes=n + cell.nbytes(n))
    cell(CASTS[cast], pixels, cell.dtype, cell.device, expect=converted)


def over_the_range(x, dtype):
    """Return numbers from the whole range that both dtypes have; as bool, some are false."""
    if dtype == torch.bool:
        return x.floor() % 2
    if x.dtype == torch.uint8:
        return x if dtype == torch.int8 else 5 * x
    if x.is_floating_point() and not dtype.is_floating_point:
        x[::2] *= min(torch.iinfo(dtype).max, torch.finfo(x.dtype).max) / 2
    return x.abs() if dtype == torch.uint8 else x  # no uint8 is negative


@dtypes(*ALL)
@pytest.mark.parametrize("source", values(["float32", "uint8"], full=["float16", "int64"]))
@pytest.mark.parametrize("n", values((2**20,), full=(2**4, 2**12, 2**22)))
def bench_convert(cell, n, source):
    x = cell.tensor(n, dtype=getattr(torch, source))
    cell.work(items=n, bytes=n * x.element_size() + cell.nbytes(n))
    cell(torch.Tensor.to, over_the_range(x, cell.dtype), cell.dtype, copy=True, expect=converted)
