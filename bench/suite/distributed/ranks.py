"""Ranks of a benchmark: processes that run the work of `bench.suite.distributed.rank`."""

import contextlib
import multiprocessing
import tempfile
import time
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from bench.measure import environment
from bench.measure.answer import Answer
from bench.records.lines import of_exit
from bench.suite.distributed import rank

#: Seconds within which ranks must connect, and must answer.
LIMIT_S = 60.0
#: Seconds in which a rank ends by itself before it is killed.
END_S = 5.0
START_METHOD = "spawn"


class RankDied(Exception):
    """The ranks ended, or did not answer in time; the message is one line."""


def max_ranks(device: torch.device) -> int:
    """Return the maximum number of ranks on a device: one per GPU, one per CPU; 1 on ``cuda:1``."""
    if ":" in str(device):
        return 1
    return torch.cuda.device_count() if device.type == "cuda" else environment.cpu_count()


def powers_of_two() -> list[int]:
    """Return 1, 2, 4, ... up to the maximum of this machine, at most 8 on the CPU."""
    room = max(min(8, environment.cpu_count()), torch.cuda.device_count())
    return [2**k for k in range(room.bit_length()) if 2**k <= room]


class Ranks:
    """`count` ranks on one machine that share a piece of work; a context manager.

    `work` and `size` are those of `bench.suite.distributed.rank`. Each rank gets its share of the
    compute threads. Raises NotImplementedError if the device has no backend or too few GPUs or
    CPUs, and RankDied if the ranks do not connect.
    """

    def __init__(self, device: torch.device, count: int, work: str, size: int) -> None:
        if device.type not in rank.BACKENDS:
            raise NotImplementedError(f"torch.distributed has no backend for {device.type}")
        if count > max_ranks(device):
            what = f"{count} ranks are not supported on this {device}"
            raise NotImplementedError(f"{what}, at most {max_ranks(device)}")
        self._folder = tempfile.TemporaryDirectory(prefix="bench-ranks-")
        known = {
            "asked": device,
            "work": work,
            "size": size,
            "world": count,
            "threads": max(1, torch.get_num_threads() // count),
            "store": (Path(self._folder.name).resolve() / "store").as_uri(),
        }
        context: Any = multiprocessing.get_context(START_METHOD)
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        try:
            for number in range(count):
                mine, other = context.Pipe()
                process = context.Process(
                    target=rank.serve, args=(other,), kwargs={**known, "rank": number}, daemon=True
                )
                process.start()
                other.close()
                self._processes.append(process)
                self._pipes.append(mine)
            self._replies("the ranks did not start", "the ranks did not connect")
        except BaseException:
            for process in self._processes:
                process.kill()
            self.close()
            raise

    def _replies(self, died: str = "a rank died", late: str = "a rank did not answer") -> list[Any]:
        """Return the reply of each rank; RankDied if one of them has ended, or is late."""
        end, found = time.monotonic() + LIMIT_S, dict.fromkeys(self._pipes)
        waiting = dict(zip(self._pipes, self._processes, strict=True))
        while waiting:
            ready: list[Any] = connection.wait(list(waiting), max(0.0, end - time.monotonic()))
            if not ready:
                raise RankDied(f"{late} within {LIMIT_S:.0f} s")
            for pipe in ready:
                process = waiting.pop(pipe)
                try:
                    found[pipe] = reply = pipe.recv()
                except (EOFError, OSError):
                    process.join(END_S)
                    reply = of_exit(process.exitcode or 0)
                if isinstance(reply, str) and reply:
                    # If one was killed, the others only report that it does not answer.
                    killed = [p.exitcode for p in self._processes if (p.exitcode or 0) < 0]
                    raise RankDied(f"{died}: {of_exit(killed[0]) if killed else reply}")
        return list(found.values())

    def _ask(self, question: int) -> list[Any]:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # it has ended, and `_replies` says why
                pipe.send(question)
        return self._replies()

    def run(self, count: int) -> float:
        """Run `count` steps in a row on all ranks; return their seconds.

        They count from the last start of a rank to the last end: the ranks leave the barrier before
        it at different times, and the first one waits in its run for the last one.
        """
        starts, ends = zip(*self._ask(count), strict=True)
        return float(max(ends) - max(starts))

    def check(self) -> Answer:
        """Return the error of one step against the same step on a single rank in float64."""
        found: list[Answer] = self._ask(rank.CHECK)
        return replace(found[0], fault=next(filter(None, (one.fault for one in found)), ""))

    def close(self) -> None:
        """End all processes, including those that hang."""
        for pipe in self._pipes:
            pipe.close()
        end = time.monotonic() + END_S
        for process in self._processes:
            process.join(timeout=max(0.0, end - time.monotonic()))
        for process in self._processes:
            process.kill()
            process.join()
        self._folder.cleanup()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
