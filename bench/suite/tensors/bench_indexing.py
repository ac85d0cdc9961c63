"""Reading and writing by index, sorting, and prefix sums."""

import pytest
import torch

from bench.measure.layers import cumulated, gathered, ordered, rows, scattered, selected
from bench.measure.proofs import fresh
from bench.suite.axes import FLOAT32, FLOATING, dtypes, values

GROUP = "indexing and sorting"
pytestmark = dtypes(*FLOATING, default=FLOAT32)

SIZES = values((2**16,), full=(2**12, 2**20))
#: Elements of a row of a table, rows of a matrix.
WIDTH = 256


def index(cell, n, below):
    """Return n indices, each once or equally often, in an order that no cache line follows."""
    return (torch.arange(n) * 40_503 % below).to(cell.device)


@pytest.mark.parametrize("n", values((2**10,), full=(2**6, 2**14)))
def bench_embedding(cell, n):
    cell.work(items=n, unit="token", bytes=8 * n + 2 * cell.nbytes(n * WIDTH))
    words = index(cell, n, 2**12)
    cell(torch.nn.functional.embedding, words, cell.tensor(2**12, WIDTH), expect=rows)


@pytest.mark.parametrize("n", SIZES)
def bench_index_select(cell, n):
    count = n // WIDTH
    cell.work(items=n, bytes=8 * count + 2 * cell.nbytes(n))
    picked = index(cell, count, 2 * count)
    cell(torch.index_select, cell.tensor(2 * count, WIDTH), 0, picked, expect=selected)


@pytest.mark.parametrize("n", SIZES)
def bench_gather(cell, n):
    cell.work(items=n, bytes=8 * n + 2 * cell.nbytes(n))
    places = (index(cell, n, n) // (n // WIDTH)).reshape(-1, WIDTH)  # other ones in each row
    cell(torch.gather, cell.tensor(n // WIDTH, WIDTH), 1, places, expect=gathered)


@pytest.mark.parametrize("n", SIZES)
def bench_scatter_add(cell, n):
    # Sums of 16 small integers are exact in every dtype and order: atomics have none.
    cell.work(items=n, bytes=8 * n + cell.nbytes(n + n // 8), flop=n)
    places, source = index(cell, n, n // 16), (2 * cell.tensor(n, seed=1)).round()
    cell(torch.scatter_add, cell.tensor(n // 16).sign(), 0, places, source, expect=scattered)


@pytest.mark.parametrize("n", SIZES)
def bench_topk(cell, n):
    cell.work(items=n, bytes=cell.nbytes(n))
    cell(torch.topk, cell.tensor(n // 1024, 1024), 10, check=ordered, proof=fresh)


@pytest.mark.parametrize("n", SIZES)
def bench_sort(cell, n):
    cell.work(items=n, bytes=8 * n + 2 * cell.nbytes(n))
    cell(torch.sort, cell.tensor(n // 1024, 1024), check=ordered, proof=fresh)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("n", SIZES)
def bench_cumsum(cell, n, dim):
    cell.work(items=n, bytes=2 * cell.nbytes(n), flop=n)
    cell(torch.cumsum, cell.tensor(n // WIDTH, WIDTH), dim=dim, expect=cumulated)
