"""Ranks of a benchmark: processes that are asked to run steps.

`Ranks` is the side of the benchmark, `bench.suite.distributed.rank` that of the processes. They
exchange lines of JSON over the standard streams of rank 0: ``{}`` says that the ranks are ready,
``{"run": n}`` is answered by ``{"seconds": s}`` for n steps in a row,
``{"check": true}`` by ``{"rel_error": ..., "tolerance": ..., "fault": ...}``.
"""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from bench.measure import environment
from bench.measure.answer import Answer
from bench.records.lines import last_line

#: Seconds within which ranks must connect, and must answer.
LIMIT_S = 60.0
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
_PACKAGES = Path(__file__).parents[3]


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

    def __init__(
        self, device: torch.device, count: int, work: str, size: int, limit_s: float = LIMIT_S
    ) -> None:
        if device.type not in BACKENDS:
            raise NotImplementedError(f"torch.distributed has no backend for {device.type}")
        if count > max_ranks(device):
            what = f"{count} ranks are not supported on this {device}"
            raise NotImplementedError(f"{what}, at most {max_ranks(device)}")
        self._limit_s = limit_s
        self._folder = tempfile.TemporaryDirectory(prefix="bench-ranks-")
        self._log = Path(self._folder.name) / "log"
        threads = max(1, torch.get_num_threads() // count)
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {"OMP_NUM_THREADS": str(threads), "WORLD_SIZE": str(count)}
        env |= {"PYTHONPATH": os.pathsep.join(paths), "TORCH_CPP_LOG_LEVEL": "ERROR"}
        # The ranks find each other through a file in a private folder, and connect over loopback:
        # a TCP store would listen on all interfaces and unpickle what anybody sends.
        env |= {"BENCH_RANK_STORE": (Path(self._folder.name).resolve() / "store").as_uri()}
        if sys.platform != "win32":  # there, gloo takes no name of an interface
            loopback = "lo0" if sys.platform == "darwin" else "lo"
            env |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
        words = ["-m", "bench.suite.distributed.rank", str(device), work, str(size)]
        self._processes: list[subprocess.Popen[str]] = []
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            with self._log.open("ab") as log:
                for rank in range(count):
                    process = subprocess.Popen(
                        [sys.executable, *words],
                        stdin=subprocess.DEVNULL if rank else subprocess.PIPE,
                        stdout=log if rank else subprocess.PIPE,
                        stderr=log,
                        env=os.environ | env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                        encoding="utf-8",
                    )
                    self._processes.append(process)
            threading.Thread(target=self._listen, daemon=True).start()
            self._reply("the ranks did not start", "the ranks did not connect")
        except BaseException:
            for process in self._processes:
                process.kill()
            self.close()
            raise

    def _listen(self) -> None:
        replies = self._processes[0].stdout
        assert replies
        with replies:
            for line in replies:
                self._replies.put(line)

    def _reply(
        self, died: str = "a rank died", late: str = "a rank did not answer"
    ) -> dict[str, Any]:
        """Wait for a reply of rank 0, as long as all processes run."""
        end = time.monotonic() + self._limit_s
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                found: dict[str, Any] = json.loads(self._replies.get(timeout=0.5))
                return found
            if any(process.poll() is not None for process in self._processes):
                raise RankDied(f"{died}: {self._message()}")
        raise RankDied(f"{late} within {self._limit_s:.0f} s: {self._message()}")

    def _message(self) -> str:
        """Return the signal that ended a rank, or the last error that the processes wrote."""
        for rank, process in enumerate(self._processes):
            if (code := process.poll()) is not None and code < 0:
                return f"rank {rank} was ended by {signal.Signals(-code).name}"
        text = self._log.read_text(encoding="utf-8", errors="replace")
        found: list[str] = re.findall(r"(\w+Error: .+)", text)
        return (found or [last_line(text)])[-1].strip()[:200]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(OSError):  # it has ended, and `_reply` says why
            print(json.dumps(question), file=self._processes[0].stdin, flush=True)
        return self._reply()

    def run(self, count: int) -> float:
        """Run `count` steps in a row on all ranks; return their seconds.

        They count from the start of the last rank to the end of the last one, without a barrier.
        """
        return float(self._ask({"run": count})["seconds"])

    def check(self) -> Answer:
        """Return the error of one step against the same step on a single rank in float64."""
        return Answer(**self._ask({"check": True}))

    def close(self) -> None:
        """End all processes, including those that hang."""
        for process in self._processes:
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()  # then rank 0 makes the others leave
        end = time.monotonic() + 5
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
        for process in self._processes:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
