"""Operations in place compared with out of place.

A timed call repeats on its own result, up to millions of times, so its values must stay finite and
normal. A sum stops growing when its rounding error exceeds the summand: in float16 at 2**11 times
the summand, far below the largest number. Products are with +-1, and relu converges. No value comes
near denormals, on which hardware may be 40 times slower. A test runs each a million times. Sigmoid
would soon work on one number, so each of its calls gets new ones, outside of its time.
"""

import pytest
import torch

from bench.measure.proofs import fresh, wrote
from bench.measure.references import added, constant, multiplied, same, second
from bench.measure.references import relu as rectified
from bench.measure.references import sigmoid as logistic
from bench.suite.axes import ALL, FLOAT32, FLOATING, NUMERIC, dtypes, quick, values

GROUPS = {
    "element-wise": ("add", "mul", "relu", "sigmoid"),
    "joining and copies": ("copy",),
    "creation": ("zero_", "fill_"),
}
pytestmark = dtypes(*ALL, default=FLOAT32)

SIZES = values((2**20,), full=(2**4, 2**12, 2**16, 2**22, 2**25))
#: From the cost of a call to the bandwidth: 2**25 elements exceed every last-level cache.
ADD_SIZES = values((2**4, 2**16, 2**20, 2**25), full=(2**12, 2**22))
#: A GPU can have 128 MiB of cache.
COPY_SIZES = values((2**4, 2**25), full=(2**12, 2**16, 2**20, 2**22), accelerator=(2**28,))
FORMS = ["in_place", "out_of_place"]
PROOF = {"in_place": wrote, "out_of_place": fresh}


@dtypes(*NUMERIC)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", ADD_SIZES)
def bench_add(cell, n, form):
    cell.work(items=n, bytes=cell.nbytes(3 * n), flop=n)
    add = torch.Tensor.add_ if form == "in_place" else torch.add
    cell(add, cell.tensor(n), cell.tensor(n, seed=1), expect=added, proof=PROOF[form])


@dtypes(*NUMERIC, default=FLOAT32)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", SIZES)
def bench_mul(cell, n, form):
    x = cell.tensor(n)
    y = cell.tensor(n, seed=1)
    cell.work(items=n, bytes=cell.nbytes(3 * n), flop=n)
    mul = torch.Tensor.mul_ if form == "in_place" else torch.mul
    sign = y.sign() if cell.dtype.is_floating_point else y
    cell(mul, x, sign, expect=multiplied, proof=PROOF[form])


@dtypes(*NUMERIC, default=FLOAT32)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", SIZES)
def bench_relu(cell, n, form):
    cell.work(items=n, bytes=cell.nbytes(2 * n), flop=n)
    relu = torch.relu_ if form == "in_place" else torch.relu
    cell(relu, cell.tensor(n), expect=rectified, proof=PROOF[form])


@dtypes(*FLOATING, default=FLOAT32)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", SIZES)
def bench_sigmoid(cell, n, form):
    cell.work(items=n, bytes=cell.nbytes(2 * n))
    sigmoid, x = torch.sigmoid_ if form == "in_place" else torch.sigmoid, 4 * cell.tensor(n)
    source = x.clone()
    cell(sigmoid, x, prepare=lambda y: y.copy_(source), expect=logistic, proof=PROOF[form])


@quick(n=(2**25,), form=("out_of_place",))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", COPY_SIZES)
def bench_copy(cell, n, form):
    x, y = cell.tensor(n), cell.tensor(n, seed=1)
    cell.work(items=n, bytes=cell.nbytes(2 * n))
    if form == "in_place":
        cell(torch.Tensor.copy_, x, y, expect=second, proof=wrote)
    else:
        cell(torch.clone, y, expect=same)


@pytest.mark.parametrize("n", SIZES)
def bench_zero_(cell, n):
    cell.work(items=n, bytes=cell.nbytes(n))
    cell(torch.Tensor.zero_, cell.tensor(n), expect=constant(0), proof=wrote)


@pytest.mark.parametrize("n", SIZES)
def bench_fill_(cell, n):
    cell.work(items=n, bytes=cell.nbytes(n))
    cell(torch.Tensor.fill_, cell.tensor(n), 3, expect=constant(3), proof=wrote)
