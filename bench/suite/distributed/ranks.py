"""Ranks of a benchmark: processes that are asked over a local socket to run steps.

`Ranks` is the side of the benchmark, `bench.suite.distributed.rank` that of the processes. They
exchange lines of JSON: ``{"run": n}`` answers ``{"seconds": s}`` for n steps in a row,
``{"check": true}`` answers ``{"rel_error": ..., "tolerance": ..., "fault": ...}``.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.measure import environment
from bench.measure.answer import Answer

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
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(limit_s)
        token = secrets.token_hex(16)
        threads = max(1, torch.get_num_threads() // count)
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "bench.suite.distributed.rank", str(device), work]
        command += [str(size), str(self._server.getsockname()[1])]
        env = {"OMP_NUM_THREADS": str(threads), "BENCH_RANK_TOKEN": token}
        env |= {"PYTHONPATH": os.pathsep.join(paths), "TORCH_CPP_LOG_LEVEL": "ERROR"}
        # The ranks find each other through a file in a private folder, and connect over loopback:
        # a TCP store would listen on all interfaces and unpickle what anybody sends.
        env |= {"BENCH_RANK_STORE": (Path(self._folder.name).resolve() / "store").as_uri()}
        if sys.platform != "win32":  # there, gloo takes no name of an interface
            loopback = "lo0" if sys.platform == "darwin" else "lo"
            env |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
        self._processes = []
        with self._log.open("ab") as log:
            for rank in range(count):
                place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | env | {name: str(value) for name, value in place.items()},
                )
                self._processes.append(process)
        try:
            self._connection = self._accept(token)
        except BaseException:
            self.close()
            raise
        self._lines = self._connection.makefile("rw", encoding="utf-8")

    def _accept(self, token: str) -> socket.socket:
        """Wait for rank 0, which knows the token, as long as the processes run."""
        self._server.settimeout(0.5)
        waited = 0.0
        while waited < self._limit_s:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                waited += 0.5
                if any(process.poll() is not None for process in self._processes):
                    raise RankDied(f"the ranks did not start: {self._message()}") from None
                continue
            connection.settimeout(self._limit_s)
            if connection.recv(len(token)).decode("ascii", "replace") == token:
                return connection
            connection.close()
        raise RankDied(f"the ranks did not connect within {self._limit_s:.0f} s: {self._message()}")

    def _message(self) -> str:
        """Return the signal that ended a rank, or the last error that the processes wrote."""
        for rank, process in enumerate(self._processes):
            if (code := process.poll()) is not None and code < 0:
                return f"rank {rank} was ended by {signal.Signals(-code).name}"
        text = self._log.read_text(encoding="utf-8", errors="replace")
        found: list[str] = re.findall(r"(\w+Error: .+)", text)
        return (found or ["no message"])[-1].strip()[:200]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            self._lines.write(json.dumps(question) + "\n")
            self._lines.flush()
            answer = self._lines.readline()
        except TimeoutError:
            if any(process.poll() is not None for process in self._processes):
                raise RankDied(f"a rank died: {self._message()}") from None
            raise RankDied(f"a rank did not answer within {self._limit_s:.0f} s") from None
        except OSError:
            answer = ""
        if not answer:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[0].wait(timeout=10)
            raise RankDied(f"a rank died: {self._message()}")
        found: dict[str, Any] = json.loads(answer)
        return found

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
        if hasattr(self, "_lines"):
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            end = time.monotonic() + 5
            for process in self._processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=max(0.0, end - time.monotonic()))
        for process in self._processes:
            process.kill()
            process.wait()
        if hasattr(self, "_connection"):
            self._connection.close()
        self._server.close()
        self._folder.cleanup()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
