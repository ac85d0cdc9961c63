"""The numpy bridge, and conversion to Python numbers.

If tensor and array share their memory, nothing is copied and the bytes are 0.
"""

import pytest
import torch

from bench.measure.proofs import aliases, fresh
from bench.measure.references import as_array, item, listed, same
from bench.suite.axes import ALL, FLOAT32, NUMERIC, dtypes, values

GROUP = "transfers"
pytestmark = dtypes(*ALL, default=FLOAT32)

SIZES = values((2**4, 2**20), full=(2**12, 2**22))


@pytest.mark.parametrize("n", SIZES)
def bench_to_numpy(cell, n):
    if cell.device.type == "cpu":
        cell.work(items=n, bytes=0)
        cell(torch.Tensor.numpy, cell.tensor(n), expect=as_array, proof=aliases)
    else:
        cell.work(items=n, bytes=cell.nbytes(2 * n))
        cell(lambda tensor: tensor.cpu().numpy(), cell.tensor(n), expect=as_array)


@pytest.mark.parametrize("n", SIZES)
def bench_from_numpy(cell, n):
    array = cell.tensor(n).cpu().numpy()
    if cell.device.type == "cpu":
        cell.work(items=n, bytes=0)
        cell(torch.from_numpy, array, expect=same, proof=aliases)
    else:
        cell.work(items=n, bytes=cell.nbytes(2 * n))
        cell(lambda x, to: torch.from_numpy(x).to(to), array, cell.device, expect=same)


@pytest.mark.parametrize("n", SIZES)
def bench_tensor_from_array(cell, n):
    array = cell.tensor(n).cpu().numpy()
    cell.work(items=n, bytes=cell.nbytes(2 * n))
    cell(torch.tensor, array, device=cell.device, expect=same)


@pytest.mark.parametrize("n", SIZES)
def bench_as_tensor(cell, n):
    on_host = cell.device.type == "cpu"
    array = cell.tensor(n).cpu().numpy()
    cell.work(items=n, bytes=0 if on_host else cell.nbytes(2 * n))
    proof = aliases if on_host else fresh
    cell(torch.as_tensor, array, device=cell.device, expect=same, proof=proof)


@pytest.mark.parametrize("n", values((2**14,), full=(2**4, 2**18)))
def bench_tolist(cell, n):
    cell.work(items=n, bytes=cell.nbytes(n))
    cell(torch.Tensor.tolist, cell.tensor(n), expect=listed)


@dtypes(*NUMERIC, default=FLOAT32)
def bench_item(cell):
    cell.work(items=1, bytes=cell.nbytes(1))
    cell(torch.Tensor.item, cell.tensor(1), expect=item)
