"""The training step over ranks: real processes on the CPU, and none of them left behind."""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time

import psutil
import pytest
import torch

from bench.suite.distributed import rank, ranks
from bench.suite.distributed.ranks import RankDied, Ranks
from bench.suite.loading.workers import _without_helpers
from tests.helpers.sockets import listening

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="this torch has no gloo",
    ),
]


@pytest.fixture
def no_leftovers():
    """After the test no process of this one is left, but for the servers of multiprocessing."""
    before = set(psutil.Process().children(recursive=True))
    yield
    end = time.monotonic() + 30
    while (left := list(filter(runs, started(before)))) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left


def runs(process):
    """Whether it has not ended; one that has may still wait for its parent to notice."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def started(before=frozenset()):
    """The processes that the tests have started, but those of `before`."""
    return _without_helpers(set(psutil.Process().children(recursive=True)) - set(before))


@pytest.fixture
def room(monkeypatch):
    """Room for two ranks, whatever machine this is."""
    monkeypatch.setattr(ranks, "max_ranks", lambda device: 2)


@pytest.fixture
def warm(monkeypatch):
    """Start the ranks from a server that has imported torch."""
    multiprocessing.set_forkserver_preload(["bench.suite.distributed.rank"])
    monkeypatch.setattr(ranks, "START_METHOD", "forkserver")


@pytest.mark.usefixtures("warm", "no_leftovers", "room")
@pytest.mark.parametrize("work", ["step", "compute"])
def test_two_ranks_make_the_step_of_one(work):
    with Ranks(CPU, 2, work, 32) as group:
        found = group.check()
        assert found.fault == ""
        assert 0 < found.rel_error <= found.tolerance
        assert group.run(3) > 0
        assert group.check().fault == ""


class Replica(torch.nn.Module):
    """One rank's model, without other ranks."""

    def __init__(self, module):
        super().__init__()
        self.module, self.no_sync = module, contextlib.nullcontext

    def forward(self, x):
        return self.module(x)


@pytest.mark.parametrize("synchronises", [True, False])
@pytest.mark.parametrize("fault", ["", "half", "one per cent", "no step"])
def test_a_step_that_is_wrong_is_seen_with_and_without_the_reduction(
    monkeypatch, synchronises, fault
):
    """The part that leaves out the reduction was not checked at all."""

    def replica(network):
        model = Replica(network)
        if fault == "half":
            network.register_forward_pre_hook(lambda _, args: (args[0][:8].repeat(2, 1, 1, 1),))
        elif fault == "one per cent":
            for parameter in network.parameters():
                parameter.register_hook(lambda gradient: 1.01 * gradient)
        return model

    for name, function in {
        "get_rank": lambda: 0,
        "get_world_size": lambda: 1,
        "all_gather": lambda every, x: every[0].copy_(x),
    }.items():
        monkeypatch.setattr(rank.distributed, name, function)
    monkeypatch.setattr(rank, "DistributedDataParallel", replica)
    if fault == "no step":
        monkeypatch.setattr(torch.optim.SGD, "step", lambda _: None)
    _, check = rank.training(CPU, 16, synchronises)
    assert bool(check().fault) == bool(fault)


@pytest.mark.parametrize("works", [True, False])
def test_the_reduction_that_is_timed_is_the_one_that_is_checked(monkeypatch, works):
    """A reduction that does nothing was right, and took a microsecond."""
    place = torch.arange(50)
    largest = torch.stack([place * 7 % 1009, (place * 9 + 31) % 1009]).max(0).values
    reduces = (lambda x, op: x.copy_(largest)) if works else (lambda x, op: None)
    monkeypatch.setattr(rank.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(rank.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(rank.distributed, "all_reduce", reduces)
    _, check = rank.reducing(CPU, 50)
    assert bool(check().fault) == (not works)


def test_the_time_is_from_the_last_begin_to_the_last_end(monkeypatch):
    """The first rank waits in its call for the last, which is no part of the call.

    Nor is the barrier before it, however slow.
    """
    clock = [100.0 - 7]

    def step(seconds):
        clock[0] += seconds

    monkeypatch.setattr(rank.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(rank.distributed, "barrier", lambda: step(7))
    here = rank.times(lambda: step(0.25), 4, CPU)
    assert here == (100, 101)
    group = object.__new__(Ranks)
    monkeypatch.setattr(group, "_ask", lambda _: [here, (100.125, 100.875)], raising=False)
    assert group.run(4) == 0.875


@pytest.mark.usefixtures("warm", "no_leftovers", "room")
def test_a_rank_that_dies_ends_the_cell_and_all_others():
    with Ranks(CPU, 2, "all_reduce", 1024) as group:
        assert group.check().fault == ""
        os.kill(group._processes[-1].pid, signal.SIGKILL)
        group._processes[-1].join(10)
        with pytest.raises(RankDied, match=r"a rank died: .*SIGKILL"):
            group.run(1000)


@pytest.mark.usefixtures("warm", "no_leftovers", "room")
def test_a_rank_that_hangs_ends_the_cell_within_its_limit(monkeypatch):
    with Ranks(CPU, 2, "all_reduce", 1024) as group:
        monkeypatch.setattr(ranks, "LIMIT_S", 1)
        monkeypatch.setattr(ranks, "END_S", 0.1)
        for child in map(psutil.Process, (one.pid for one in group._processes)):
            child.suspend()
        start = time.monotonic()
        with pytest.raises(RankDied, match="did not answer within 1 s"):
            group.run(1)
        assert time.monotonic() - start < 20


@pytest.mark.usefixtures("warm", "no_leftovers", "room")
@pytest.mark.parametrize("fails", [0, 1])
def test_a_rank_that_cannot_be_started_leaves_no_other(monkeypatch, fails, tmp_path):
    """As under a limit of processes."""
    made, start = [], multiprocessing.process.BaseProcess.start

    def limited(process):
        if len(made) == fails:
            raise BlockingIOError("Resource temporarily unavailable")
        made.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", limited)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(BlockingIOError):
        Ranks(CPU, 2, "all_reduce", 1024)
    assert all(process.exitcode is not None for process in made)
    assert list(tmp_path.iterdir()) == []


def test_more_ranks_than_room_and_devices_without_backend_are_unsupported(monkeypatch):
    monkeypatch.setattr(ranks, "max_ranks", lambda device: 1)
    with pytest.raises(NotImplementedError, match="2 ranks are not supported on this cpu"):
        Ranks(CPU, 2, "step", 8)
    with pytest.raises(NotImplementedError, match="no backend for mps"):
        Ranks(torch.device("mps"), 1, "step", 8)


def test_ranks_are_powers_of_two_up_to_the_room(monkeypatch):
    monkeypatch.setattr(ranks.environment, "cpu_count", lambda: 6)
    assert ranks.powers_of_two() == [1, 2, 4]
    monkeypatch.setattr(ranks.environment, "cpu_count", lambda: 96)
    assert ranks.powers_of_two() == [1, 2, 4, 8]


FAKED = """
from bench.measure.answer import Answer

class Group:
    def run(self, count):
        return 1e-3 * count

@dtypes("float32")
@pytest.mark.parametrize("ranks", [1, 2])
def bench_group(cell, ranks):
    cell.work(items=8)
    fault = "the ranks hold different parameters" if ranks == 2 else ""
    cell.loop(Group().run, lambda: Answer(1e-7, 1e-5, fault))
"""


def test_what_processes_of_their_own_time_is_a_row(suite):
    suite.write(FAKED)
    suite.run()
    one, two = suite.rows().sort_values("params").itertuples()
    assert (one.status, two.status) == ("ok", "wrong")
    assert two.reason == "the ranks hold different parameters"
    assert one.median_s == pytest.approx(1e-3)
    assert (one.rel_error, one.tolerance) == (1e-7, 1e-5)
    assert one.first_call_s == pytest.approx(1e-3)


@pytest.mark.usefixtures("warm", "no_leftovers", "room")
def test_nobody_but_this_machine_can_reach_the_ranks():
    """The store of torchrun listened on all interfaces, and unpickled what it was sent."""
    with Ranks(CPU, 2, "all_reduce", 1024) as group:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        assert {one.pid for one in group._processes} <= {one.pid for one in processes}
        for process in processes:
            assert {each.ip for each in listening(process)} <= {"127.0.0.1", "::1"}
