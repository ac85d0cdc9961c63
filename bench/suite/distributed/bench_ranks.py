"""The training step under DistributedDataParallel, and the all-reduce it contains."""

import pytest

from bench.suite.axes import dtypes, values
from bench.suite.distributed.ranks import Ranks, powers_of_two
from bench.suite.training.models import BACKWARD_FLOP, FORWARD_FLOP, PARAMETERS

GROUP = "distributed"
pytestmark = dtypes("float32")

RANKS = powers_of_two()
BATCH = 256
#: With one rank both are the same.
SCALED = [(1, "weak"), *((ranks, how) for ranks in RANKS[1:] for how in ("weak", "strong"))]


@pytest.mark.parametrize("part", ["whole", "compute"])
@pytest.mark.parametrize(("ranks", "scaling"), SCALED)
@pytest.mark.parametrize("batch", values((BATCH,), full=(16, 4096)))
def bench_ddp_step(cell, batch, ranks, scaling, part):
    """Weak: `batch` samples a rank; strong: in all. `compute` leaves the all-reduce out."""
    total = batch * ranks if scaling == "weak" else batch
    cell.work(items=total, unit="sample", flop=total * (FORWARD_FLOP + BACKWARD_FLOP))
    work = "step" if part == "whole" else "compute"
    cell.uses_processes()
    group = cell.enter(Ranks(cell.device, ranks, work, total))
    cell.loop(group.run, group.check)


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("n", values((2**10, 2**16, PARAMETERS), full=(2**24,)))
def bench_all_reduce(cell, n, ranks):
    """The bytes are the minimum that a rank must send: 2 (ranks - 1) / ranks of the message.

    After the bus bandwidth of https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md.
    """
    cell.work(items=n, bytes=round(2 * (ranks - 1) / ranks * cell.nbytes(n)))
    cell.uses_processes()
    group = cell.enter(Ranks(cell.device, ranks, "all_reduce", n))
    cell.loop(group.run, group.check)
