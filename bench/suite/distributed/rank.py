"""What one rank does: its work, and `serve`, the process in which it answers the benchmark.

The work is ``step`` (forward, all-reduced backward and optimizer step), ``compute`` (the same
without the all-reduce) or ``all_reduce`` (of a message).
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from bench.measure.answer import Answer, compare, judge
from bench.measure.arrays import double
from bench.measure.deviations import Rough
from bench.records.lines import of_exception
from bench.suite.training import expected
from bench.suite.training.models import CHECKED_RATE, LEARNING_RATE, SIZES, seeded_network

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
#: Asks for a check; a larger number, for so many runs.
CHECK = 0

#: What a rank runs, and a check of its part of the result.
Work = tuple[Callable[[], object], Callable[[], Answer]]


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

    def check() -> Answer:
        """The rank's gradients must be right, and its parameters must move along them.

        They are those of the whole batch, which rank 0 compares and all ranks must share; without
        the all-reduce, those of its part.
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
        found, faults = Answer(), [judge(parameters, wanted, device).fault]
        if rank == 0 or not synchronises:
            parts = range(world) if synchronises else [rank]
            images, labels = (whole.chunk(world) for whole in data(total))
            batches = [(images[one].to(device), labels[one].to(device)) for one in parts]
            found = judge(given, expected.mean_gradients(before, batches), device)
            faults.append(found.fault)
        if synchronises:
            flat = torch.cat([p.detach().flatten() for p in parameters])
            others = [torch.empty_like(flat) for _ in range(world)]
            distributed.all_gather(others, flat)
            if not all(torch.equal(flat, other) for other in others):
                faults.append("the ranks hold different parameters after a step")
        return replace(found, fault=next(filter(None, faults), ""))

    return (step if synchronises else alone), check


def reducing(device: torch.device, count: int) -> Work:
    """Return the reduction of a message of `count` numbers over all ranks to the largest.

    A sum would grow without limit from call to call.
    """
    rank, world = distributed.get_rank(), distributed.get_world_size()
    message = torch.ones(count, device=device)

    def reduce() -> None:
        distributed.all_reduce(message, op=distributed.ReduceOp.MAX)

    def check() -> Answer:
        """Each element must be that of the rank which has the largest."""
        place = torch.arange(count)
        values = torch.stack([(place * (7 + 2 * one) + 31 * one) % 1009 for one in range(world)])
        message.copy_(values[rank])
        reduce()
        return compare(message, values.numpy().max(0), torch.int64)

    return reduce, check


def times(run: Callable[[], object], count: int, device: torch.device) -> tuple[float, float]:
    """Return when `count` runs in a row start and end, on the clock that all processes share."""
    distributed.barrier()
    start = time.perf_counter()
    for _ in range(count):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return start, time.perf_counter()


def device_of_rank(asked: torch.device, rank: int) -> torch.device:
    """Return the device of a rank: the one asked for, or the GPU of its number."""
    several = asked.type == "cuda" and asked.index is None
    return torch.device("cuda", rank) if several else asked


def backend(device: torch.device) -> str:
    """Return the backend of torch.distributed; wheels for Windows have no NCCL."""
    name = BACKENDS[device.type]
    return name if name != "nccl" or distributed.is_nccl_available() else "gloo"


def serve(
    questions: Connection,
    *,
    asked: torch.device,
    work: str,
    size: int,
    rank: int,
    world: int,
    threads: int,
    store: str,
) -> None:
    """Answer the benchmark until it closes the pipe `questions`; a text says why this rank ends.

    `size` is that of the message, or the samples of all ranks. They find each other in the file
    `store` and connect over loopback: a TCP store would listen on all interfaces and unpickle what
    anybody sends.
    """
    with open(os.devnull, "wb") as nothing:
        for stream in (1, 2):
            os.dup2(nothing.fileno(), stream)
    if sys.platform != "win32":  # there, gloo takes no name of an interface
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    try:
        torch.set_num_threads(threads)
        device = device_of_rank(asked, rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group(
            backend(device), init_method=store, rank=rank, world_size=world
        )
        if work == "all_reduce":
            run, check = reducing(device, size)
        else:
            run, check = training(device, size, work == "step")
        questions.send("")
        while True:
            count = questions.recv()
            questions.send(check() if count == CHECK else times(run, count, device))
    except (EOFError, BrokenPipeError):
        distributed.destroy_process_group()
    except Exception as problem:  # whatever a backend raises
        questions.send(of_exception(problem))
