"""The hardware and software of this machine, without the names of its host and user."""

import ctypes
import importlib.util
import math
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch

from bench import CPUS_AT_START
from bench.measure import cgroup, devices
from bench.records.labels import cpu_name, slug

#: Parameters of mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in glibc's malloc.h, and the
#: largest values to which glibc raises them by itself on a 64-bit machine.
_MALLOC = {-3: 32 * 2**20, -1: 64 * 2**20}


@dataclass(frozen=True)
class Environment:
    """The environment columns of a row that are the same for every cell of a run."""

    os: str
    python: str
    torch: str
    torchvision: str
    cpu: str
    cpu_count: int
    memory_bytes: int
    threads: int

    @property
    def key(self) -> str:
        """All that decides how fast the same instructions run, as text."""
        return f"{self.cpu}, {self.threads} threads, Python {self.python}, torch {self.torch}"

    def columns(self) -> dict[str, str | int]:
        """Return the values by column."""
        return asdict(self)


def torchvision_version() -> str:
    """Return torchvision's version without importing it, which takes longer than torch itself."""
    found = importlib.util.find_spec("torchvision")
    if found and found.origin:
        version = Path(found.origin).with_name("version.py")
        text = version.read_text(encoding="utf-8") if version.exists() else ""
        if stated := re.search(r"^__version__ = ['\"](.+)['\"]", text, re.M):
            return stated[1]
    return metadata.version("torchvision")


def cpu_of(cpuinfo: str) -> str:
    """Return the name of the CPU in the text of ``/proc/cpuinfo``; empty if it has none.

    Arm has no names there: the architecture, with the numbers of implementer, part and variant.
    """
    fields: dict[str, str] = dict(re.findall(r"^([\w ]+?)\s*: *(\S.*?)\s*$", cpuinfo, re.M))
    if name := fields.get("model name"):
        return cpu_name(name, map(fields.get, ("cpu family", "model", "stepping")))
    arm = [fields[key] for key in ("CPU implementer", "CPU part", "CPU variant") if key in fields]
    return f"{platform.machine()} {'-'.join(arm)}" if arm else ""


def cpu_model() -> str:
    """Return the name of the CPU, or its architecture if the platform does not report a name."""
    if sys.platform == "linux":
        if name := cpu_of(Path("/proc/cpuinfo").read_text(errors="replace")):
            return name
    elif sys.platform == "darwin":
        asked = devices.run_program("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
        if name := asked.stdout.strip():
            return name
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Return how many CPUs this process can keep busy.

    Affinity and the quota of a container limit them. A quota of 1.5 CPUs counts as two.
    """
    visible = len(CPUS_AT_START) if CPUS_AT_START else os.cpu_count() or 1
    quota = cgroup.limits().cpus
    return visible if quota is None else min(visible, math.ceil(quota))


def memory_bytes() -> int:
    """Return the memory that this process may use, within the limit of its container."""
    total = psutil.virtual_memory().total
    return min(total, cgroup.limits().memory_bytes or total)


def current() -> Environment:
    """Read the environment of this process."""
    return Environment(
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=torchvision_version(),
        cpu=cpu_model(),
        cpu_count=cpu_count(),
        memory_bytes=memory_bytes(),
        threads=torch.get_num_threads(),
    )


def set_threads(count: int | None = None) -> None:
    """Use `count` compute threads on the CPU, by default no more than the quota of a container.

    More threads use up the quota early in each period, and then all wait for the next period.
    """
    quota = cgroup.limits().cpus
    if count is None and quota is not None:
        count = min(torch.get_num_threads(), math.ceil(quota))
    if count is not None:
        torch.set_num_threads(count)


def settle_allocator() -> None:
    """Fix the thresholds of glibc's allocator, as in a process that has run for long.

    They start low and grow with what is freed. So the cells before a call that returns some MiB
    decide whether it reuses memory or needs fresh pages, and its time differs tenfold (mallopt(3),
    M_MMAP_THRESHOLD). With fixed thresholds, every run reuses memory below 32 MiB and needs fresh
    pages above. Other allocators are not changed.
    """
    if platform.libc_ver()[0] == "glibc" and ctypes.sizeof(ctypes.c_void_p) == 8:
        for parameter, value in _MALLOC.items():
            ctypes.CDLL(None).mallopt(parameter, value)


def machine_label(environment: Environment, accelerators: list[devices.Device]) -> str:
    """Return a label made of the hardware alone: CPU, cores, memory in GiB, accelerators."""
    memory = f"{round(environment.memory_bytes / 2**30)}gib"
    parts = [environment.cpu, f"{environment.cpu_count}c", memory]
    parts += [f"{d.count}x {d.model}" if d.count > 1 else d.model for d in accelerators]
    return "-".join(filter(None, map(slug, parts)))
