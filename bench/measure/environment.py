"""What this machine is: nothing here names its host or its user."""

import importlib.util
import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch

from bench import CPUS_AT_START
from bench.measure import cgroup, devices
from bench.records.labels import slug


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
        """What the speed of the same instructions depends on."""
        return f"{self.cpu}, {self.threads} threads, Python {self.python}, torch {self.torch}"

    def columns(self) -> dict[str, str | int]:
        """The same as a mapping from column to value."""
        return asdict(self)


def torchvision_version() -> str:
    """Return torchvision's version without importing it, which takes longer than torch itself."""
    found = importlib.util.find_spec("torchvision")
    if found and found.origin:
        version = Path(found.origin).with_name("version.py")
        text = version.read_text(encoding="utf-8") if version.exists() else ""
        if said := re.search(r"^__version__ = ['\"](.+)['\"]", text, re.M):
            return said[1]
    return metadata.version("torchvision")


def cpu_model() -> str:
    """Return the CPU's own name, or its architecture where the platform does not tell."""
    if sys.platform == "linux":
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.M
        )
        if found:
            return found[1].strip()
    elif sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip():
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """CPUs this process can keep busy: in a container, by affinity or quota, fewer than there are.

    A quota of 1.5 CPUs counts as two.
    """
    visible = len(CPUS_AT_START) if CPUS_AT_START else os.cpu_count() or 1
    quota = cgroup.limits().cpus
    return visible if quota is None else min(visible, math.ceil(quota))


def memory_bytes() -> int:
    """Memory this process may use, which in a container may be less than the machine has."""
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
    """Use `count` compute threads on the CPU; without one, no more than a container's quota pays.

    More threads than the quota pays for use it up early in each period, and all wait for the next.
    """
    quota = cgroup.limits().cpus
    if count is None and quota is not None:
        count = min(torch.get_num_threads(), math.ceil(quota))
    if count is not None:
        torch.set_num_threads(count)


def machine_label(environment: Environment, accelerators: list[devices.Device]) -> str:
    """Return a label made of the hardware alone: CPU, cores, memory in GiB, accelerators."""
    memory = f"{round(environment.memory_bytes / 2**30)}gib"
    parts = [environment.cpu, f"{environment.cpu_count}c", memory]
    parts += [device.model for device in accelerators]
    return "-".join(filter(None, map(slug, parts)))
