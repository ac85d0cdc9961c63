"""One rank: ``python -m bench.suite.distributed.rank DEVICE WORK SIZE``, one process a rank.

Rank 0 receives commands from standard input and passes them on to the others. WORK is ``step``
(forward, all-reduced backward and optimizer step of SIZE samples in total), ``compute`` (the same
without the all-reduce) or ``all_reduce`` (a message of SIZE numbers).
"""

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from bench.measure import answer
from bench.measure.arrays import double
from bench.measure.deviations import Rough
from bench.suite.distributed.ranks import BACKENDS
from bench.suite.training import expected
from bench.suite.training.models import SIZES, seeded_network

#: So small that thousands of steps on one batch hardly change the network.
LEARNING_RATE = 1e-5
#: The rate of the check, with which a step shows.
CHECKED_RATE = 0.5
#: Commands to the other ranks: check, leave; a larger number is a number of steps.
CHECK, LEAVE = -1, 0
#: Time after which a rank that receives no command ends.
COMMAND_TIMEOUT = datetime.timedelta(minutes=10)

#: A step, and a check of it against a single rank, which returns None on ranks other than 0.
Work = tuple[Callable[[], object], Callable[[], answer.Answer | None]]


def data(total: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all samples of a step, the same on every rank: images (total, 1, 28, 28), labels."""
    generator = torch.Generator().manual_seed(2147)
    images = torch.rand(total, 1, 28, 28, generator=generator) + 0.5
    return images, torch.arange(total) * 7 % SIZES[-1]


def training(device: torch.device, total: int, synchronises: bool) -> Work:
    """Return the training step of the network over all ranks."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    images, labels = (part.chunk(world)[rank].to(device) for part in data(total))
    model = DistributedDataParallel(seeded_network().to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def alone() -> None:
        with model.no_sync():
            step()

    def check() -> answer.Answer | None:
        """Each rank's gradients must be right, and its parameters must move along them.

        They are those of the whole batch on all ranks, or without the all-reduce, those of its
        part. Rank 0 reports what is wrong on any rank.
        """
        before, optimizer.param_groups[0]["lr"] = seeded_network().to(device), CHECKED_RATE
        with torch.no_grad():
            for mine, first in zip(model.parameters(), before.parameters(), strict=True):
                mine.copy_(first)
        (step if synchronises else alone)()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE
        parameters = list(model.parameters())
        given = [p.grad for p in parameters]
        wanted = expected.moved(before, [Rough.exact(double(g)) for g in given], CHECKED_RATE)
        faults = [answer.judge(parameters, wanted, device).fault]
        found = answer.Answer()
        if rank == 0 or not synchronises:
            parts = range(world) if synchronises else [rank]
            images, labels = (whole.chunk(world) for whole in data(total))
            batches = [(images[one].to(device), labels[one].to(device)) for one in parts]
            found = answer.judge(given, expected.mean_gradients(before, batches), device)
            faults.append(found.fault)
        every = [""] * world
        distributed.all_gather_object(every, next(filter(None, faults), ""))
        flat = torch.cat([p.detach().flatten() for p in parameters])
        others = [torch.empty_like(flat) for _ in range(world)]
        distributed.all_gather(others, flat)
        if synchronises and not all(torch.equal(flat, other) for other in others):
            every.append("the ranks hold different parameters after a step")
        return None if rank else replace(found, fault=next(filter(None, every), ""))

    return (step if synchronises else alone), check


def reducing(device: torch.device, count: int) -> Work:
    """Return the reduction of a message of `count` numbers over all ranks to the largest.

    A sum would grow without limit from call to call.
    """
    rank, world = distributed.get_rank(), distributed.get_world_size()
    message = torch.ones(count, device=device)

    def reduce() -> None:
        distributed.all_reduce(message, op=distributed.ReduceOp.MAX)

    def check() -> answer.Answer | None:
        """Each element must be that of the rank which has the largest, on every rank."""
        place = torch.arange(count)
        values = torch.stack([(place * (7 + 2 * one) + 31 * one) % 1009 for one in range(world)])
        message.copy_(values[rank])
        reduce()
        every = [torch.empty_like(message) for _ in range(world)]
        distributed.all_gather(every, message)
        if rank:
            return None
        wanted = values.numpy().max(0)
        return answer.compare(every, [wanted] * world, torch.int64)

    return reduce, check


def seconds(run: Callable[[], object], count: int, device: torch.device, commands: Any) -> float:
    """Return the seconds of `count` runs in a row: from the last start of a rank to the last end.

    The ranks exchange these times in the group `commands`, after the clock has stopped: a barrier
    in the timed part would take about as long as the reduction of a small message. The ranks leave
    the barrier before it at different times, and the first one waits in its run for the last one,
    so the time starts with the last one. All processes of a machine share one clock.
    """
    distributed.barrier()
    start = time.perf_counter()
    for _ in range(count):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    times = torch.tensor([start, time.perf_counter()], dtype=torch.float64)
    distributed.all_reduce(times, op=distributed.ReduceOp.MAX, group=commands)
    last_start, last_end = times.tolist()
    return float(last_end - last_start)


def device_of_rank(asked: torch.device, rank: int) -> torch.device:
    """Return the device of a rank: the one asked for, or the GPU of its number."""
    several = asked.type == "cuda" and asked.index is None
    return torch.device("cuda", rank) if several else asked


def backend(device: torch.device) -> str:
    """Return the backend of torch.distributed; wheels for Windows have no NCCL."""
    name = BACKENDS[device.type]
    return name if name != "nccl" or distributed.is_nccl_available() else "gloo"


def main() -> None:
    """Serve until the benchmark closes standard input of rank 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", type=torch.device)
    parser.add_argument("work", choices=["step", "compute", "all_reduce"])
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    # Standard output is for replies only: what a library prints there goes to the log.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    device = device_of_rank(given.device, int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        backend(device),
        init_method=os.environ["BENCH_RANK_STORE"],
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=COMMAND_TIMEOUT,
    )
    # Commands do not use the group that is timed.
    commands: Any = distributed.new_group(backend="gloo", timeout=COMMAND_TIMEOUT)
    if given.work == "all_reduce":
        run, check = reducing(device, given.size)
    else:
        run, check = training(device, given.size, given.work == "step")

    def broadcast(number: int) -> int:
        """Send a number to the other ranks, or receive it from rank 0."""
        word = torch.tensor([number])
        distributed.broadcast(word, 0, group=commands)
        return int(word)

    def reply(**words: Any) -> None:
        print(json.dumps(words), file=replies, flush=True)

    if distributed.get_rank() == 0:
        reply()
        for line in sys.stdin:
            asked = json.loads(line)
            if "run" in asked:
                reply(seconds=seconds(run, broadcast(asked["run"]), device, commands))
            else:
                broadcast(CHECK)
                found = check()
                assert found
                reply(**asdict(found))
        broadcast(LEAVE)
    else:
        while (number := broadcast(0)) != LEAVE:
            if number == CHECK:
                check()
            else:
                seconds(run, number, device, commands)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
