"""The devices of this machine and the clock of each."""

import functools
import json
import math
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure import gpu
from bench.records import lines

#: Seconds for which `long_matmul` keeps a device busy: longer than a launch, shorter than a cell.
LONG_S = 0.005


class UnknownDevice(ValueError):
    """The name of a device is unknown, or this machine does not have it."""


def run_program(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of the system; one that does not exist, or takes 20 s, has failed silently."""
    try:
        return subprocess.run(
            command, capture_output=True, errors="replace", check=False, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return subprocess.CompletedProcess(command, 1, "", "")


def _nothing_to_wait_for() -> None:
    pass


@dataclass(frozen=True)
class Device:
    """A device to time on, and how to wait for it.

    `name` is its name for users and in the CSV (``cpu``, ``cuda``, ``cuda:1``, ``mps``);
    `synchronize` returns when all work queued on the device has ended; `now` is the host's clock
    in seconds; `launcher` replaces `long_matmul`, and `starter` the launch of the smallest work.
    Optional: `event` makes a mark in the device's queue, such as ``torch.cuda.Event``, `peak_bytes`
    returns the largest additional memory of a call, and `free_memory` returns the memory that the
    allocator keeps.
    `count` is how many devices of this kind the machine has. `broken` says why the device cannot
    even be asked for its name.
    """

    name: str
    torch_device: torch.device
    synchronize: Callable[[], None] = _nothing_to_wait_for
    now: Callable[[], float] = time.perf_counter
    model: str = ""
    driver: str = ""
    launcher: Callable[[torch.device], Callable[[], object]] | None = None
    starter: Callable[[], object] | None = None
    event: Callable[[], Any] | None = None
    peak_bytes: Callable[[Callable[[], object]], int] | None = None
    free_memory: Callable[[], None] = _nothing_to_wait_for
    count: int = 1
    broken: str = ""

    @property
    def is_host(self) -> bool:
        """Whether calls return only when the work is done, so that there is nothing to wait for."""
        return self.synchronize is _nothing_to_wait_for

    def clock(self) -> float:
        """Return the seconds on the host's clock after all queued work has ended."""
        self.synchronize()
        return self.now()

    def long_work(self) -> Callable[[], object]:
        """Launch work of some milliseconds; return a function that reads its result."""
        return (self.launcher or long_matmul)(self.torch_device)

    def synchronize_waits(self) -> bool:
        """Return whether `synchronize` returns only when the device has done its work.

        A device can read the result of `long_work` only when the work has ended: if reading it
        after `synchronize` takes long, `synchronize` did not wait.
        """
        read = self.long_work()
        start = self.now()
        self.synchronize()
        waited = self.now()
        read()
        return self.now() - waited <= 0.5 * (self.now() - start)

    def clock_cost(self, readings: int = 101) -> float:
        """Return the seconds that one reading of the clock takes with work queued, a median.

        Waiting for an idle device can cost a hundredth of that: MPS returns at once if there is
        no command buffer, and a commit and a wait take some 220 us.
        """
        times: list[float] = []
        smallest = torch.ones(1, device=self.torch_device).neg_
        start_work = (lambda: None) if self.is_host else self.starter or smallest
        for _ in range(readings):
            start_work()
            start = self.now()
            times.append(self.clock() - start)
        return statistics.median(times)

    def fault(self) -> str:
        """Return in one line why the device cannot be used, or an empty string.

        A device can be listed and fail at its first allocation or kernel, or not wait for its work.
        """
        if self.is_host or self.broken:
            return self.broken
        try:
            found = float((torch.ones(256, device=self.torch_device) + 1).sum())
            waits = self.synchronize_waits()
        except Exception as problem:  # each backend has its own
            return _fault(problem)
        if found != 512:
            return f"256 times 1 + 1 gave {found:g}, not 512"
        if not waits:
            return "synchronisation does not wait for its work, so only launches would be timed"
        return ""


def _fault(problem: Exception) -> str:
    text = lines.one_line(str(problem)).rstrip(".") or type(problem).__name__
    if "no kernel image" in text:
        has = ", ".join(torch.cuda.get_arch_list())
        text += f" (this torch has kernels for {has or 'no GPU'})"
    return text


@functools.cache
def _matmul(device: torch.device) -> tuple[torch.Tensor, int]:
    """Return a matrix, and how many products of it the device computes in `LONG_S`."""
    matrix = torch.rand(2048, 2048, device=device) / 2048
    (matrix @ matrix)[0, :1].cpu()
    start = time.perf_counter()
    (matrix @ matrix)[0, :1].cpu()  # reading waits, whatever `synchronize` does
    return matrix, max(1, math.ceil(LONG_S / (time.perf_counter() - start)))


def long_matmul(device: torch.device) -> Callable[[], object]:
    """Launch matrix products of at least `LONG_S`; return a function that reads their result."""
    matrix, count = _matmul(device)
    product = matrix
    for _ in range(count):
        product = product @ matrix
    return product[0, :1].cpu


def _cuda_event(device: torch.device) -> Any:
    """Return an event that is recorded on the stream of `device`, even if another is current."""
    made: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    made.record = functools.partial(made.record, torch.cuda.current_stream(device))
    return made


def _peak(memory: Any, device: torch.device, call: Callable[[], object]) -> int:
    """Return the largest additional memory of a call; `memory` is torch.cuda or alike."""
    memory.synchronize(device)
    memory.reset_peak_memory_stats(device)
    before: int = memory.memory_allocated(device)
    call()
    memory.synchronize(device)
    return int(memory.max_memory_allocated(device)) - before


def _cuda(name: str) -> Device:
    device = torch.device(name)
    properties = torch.cuda.get_device_properties(device)
    # ROCm uses the name cuda too, and has a HIP version instead of a CUDA version.
    runtime = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"HIP {torch.version.hip}"
    state = gpu.read(device)
    if state and state.driver:  # the version of CUDA is that of torch
        runtime += f", driver {state.driver}"
    return Device(
        name,
        device,
        functools.partial(torch.cuda.synchronize, device),
        model=properties.name,
        driver=runtime,
        event=functools.partial(_cuda_event, device),
        peak_bytes=functools.partial(_peak, torch.cuda, device),
        free_memory=torch.cuda.empty_cache,
        count=torch.cuda.device_count(),
    )


def _apple_gpu() -> str:
    """Return the chip and the number of its GPU cores: some M1 have 7, others 8."""
    mps: Any = torch.backends.mps
    if hasattr(mps, "get_core_count"):  # torch 2.11
        return f"{mps.get_name()} {mps.get_core_count()}-core GPU"
    listed = run_program("/usr/sbin/system_profiler", "-json", "SPDisplaysDataType").stdout
    try:
        found = json.loads(listed)["SPDisplaysDataType"][0]
        return f"{found['sppci_model']} {found['sppci_cores']}-core GPU"
    except (ValueError, LookupError):
        return f"{platform.machine()} GPU"


def _mps(name: str, device: torch.device) -> Device:
    """Return the GPU of a Mac.

    Its events and its allocator's peak can be used from torch 2.15 on: older events are callbacks
    of the host, and can deadlock (pytorch issue 162872).
    """
    recent: dict[str, Any] = {}
    if torch.__version__ >= "2.15":  # compared as versions
        recent["event"] = functools.partial(torch.mps.Event, enable_timing=True)
        recent["peak_bytes"] = functools.partial(_peak, torch.accelerator, device)
    return Device(
        name,
        device,
        torch.mps.synchronize,
        model=_apple_gpu(),
        driver=f"macOS {platform.mac_ver()[0]}",
        free_memory=torch.mps.empty_cache,
        **recent,
    )


@functools.cache
def _accelerator(name: str) -> Device:
    device = torch.device(name)
    synchronize = functools.partial(torch.accelerator.synchronize, device)
    try:
        if device.type == "cuda":
            return _cuda(name)
        if device.type == "mps":
            return _mps(name, device)
    except Exception as problem:  # a driver that does not even give the name of its GPU
        return Device(name, device, synchronize, model=device.type, broken=_fault(problem))
    return Device(name, device, synchronize, model=device.type)


def unavailable() -> str:
    """Return in one line which accelerator torch was built for and cannot use; empty if none.

    A machine without any NVIDIA driver is not reported: the usual builds for CUDA run there too.
    """
    if torch.accelerator.is_available():
        return ""
    if torch.backends.mps.is_built():
        needs = "14" if torch.__version__ >= "2.11" else "13"
        needs = "15" if torch.__version__ >= "2.15" else needs
        here = platform.mac_ver()[0]
        return f"mps: torch {torch.__version__} needs macOS {needs}, this is macOS {here}"
    if torch.version.cuda and (driver := _nvidia_driver()):
        return (
            f"cuda: torch {torch.__version__} was built for CUDA {torch.version.cuda}, and the "
            f"NVIDIA driver {driver}"
        )
    return ""


def _nvidia_driver() -> str:
    """Return the version of the NVIDIA driver and of the CUDA it supports, as nvidia-smi has it."""
    done = run_program("nvidia-smi")
    found = re.search(r"Driver Version: *([\d.]+).*?CUDA[^:]*Version: *([\d.]+)", done.stdout)
    if found:
        return f"{found[1]} supports CUDA {found[2]}"
    failed = lines.one_line(done.stdout or done.stderr)
    return f"does not answer: {failed}" if done.returncode and failed else ""


#: Devices by name that torch does not list: your own backend, or a simulated device.
OTHERS: dict[str, Device] = {}


def names() -> list[str]:
    """Return the names of the devices of this machine, ``cpu`` first."""
    found = ["cpu", *OTHERS]
    # In this order: without a device, torch 2.6 raises when it is asked for the current one.
    if torch.accelerator.is_available() and (current := torch.accelerator.current_accelerator()):
        found.append(current.type)
    return found


def accelerators() -> list[Device]:
    """Return the devices of this machine that have a model of their own, unlike the CPU."""
    return [device for device in map(find, names()) if device.model]


def find(name: str) -> Device:
    """Return the device called `name` (``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    Raises UnknownDevice if the machine does not have it; the message is one line.
    """
    if name in OTHERS:
        return OTHERS[name]
    kind, _, index = name.partition(":")
    has = names()
    if kind not in has or kind in OTHERS or (index and not index.isdecimal()):
        raise UnknownDevice(f"{name!r} is no device of this machine; it has: {', '.join(has)}")
    if index and int(index) >= (1 if kind in ("cpu", "mps") else torch.accelerator.device_count()):
        raise UnknownDevice(f"{name!r}: this machine has fewer devices of kind {kind!r}")
    return Device("cpu", torch.device("cpu")) if kind == "cpu" else _accelerator(name)
