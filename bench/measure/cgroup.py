"""Read the CPU quota and the memory limit of a container: Linux control groups, v1 and v2.

``docker run --cpus 0.3`` and CPU limits of Kubernetes are quotas, not affinities: every CPU stays
visible, and when the quota of a period is used up, all threads stop until the next period.
Sources: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and
scheduler/sched-bwc.rst; proc_pid_cgroup(5), proc_pid_mountinfo(5).
"""

import contextlib
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_SELF = Path("/proc/self")
#: A version 1 memory limit from here on means "none": the kernel rounds 2**63 - 1 to pages.
_UNLIMITED = 2**62


@dataclass(frozen=True)
class Limits:
    """CPUs' worth of time and bytes of memory that this process may use; None means no limit."""

    cpus: float | None = None
    memory_bytes: int | None = None


class Throttling(NamedTuple):
    """The periods of a quota so far, how many of them stopped the group, and for how long.

    `stopped_s` is the sum over the CPUs of the group: one second of two CPUs counts as two.
    """

    periods: int
    throttled: int
    stopped_s: float

    def __sub__(self, before: "Throttling") -> "Throttling":
        return Throttling(*map(operator.sub, self, before))


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo, which has no spaces in a path."""
    return text.encode("latin-1", "replace").decode("unicode_escape") if "\\" in text else text


def _groups(proc: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of each group of this process, its ancestors included.

    Only groups of `controller` (``cpu`` or ``memory``). Without a cgroup namespace, the kernel
    reports paths of the host; only those below the mounted root are visible.
    """
    memberships = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    for line in (proc / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, mounted = map(_unescape, left.split()[3:5])
        kind, _, options = [*right.split(), "", "", ""][:3]
        version = {"cgroup": 1, "cgroup2": 2}.get(kind)
        if version is None or (version == 1 and controller not in options.split(",")):
            continue
        wanted = controller if version == 1 else ""
        for _, controllers, path in memberships:
            if wanted not in controllers.split(","):
                continue
            inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
            top = Path(mounted)
            folders = [top / inside, *(top / parent for parent in inside.parents)]
            yield from ((version, folder) for folder in dict.fromkeys(folders))


def _number(folder: Path, name: str, position: int = 0) -> float:
    """Return a number of a file, or infinity if it is absent or ``max``."""
    try:
        return float((folder / name).read_text().split()[position])
    except (OSError, ValueError, IndexError):
        return math.inf


def _cpus(version: int, folder: Path) -> float:
    """Return the CPUs' worth of time that one group may use, infinity without a quota."""
    if version == 1:
        quota, period = (_number(folder, f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    else:
        quota, period = (_number(folder, "cpu.max", position) for position in (0, 1))
    return quota / period if 0 < quota < math.inf and 0 < period < math.inf else math.inf


def limits(proc: Path = _SELF) -> Limits:
    """Return the tightest limits of the control groups of this process; none outside Linux."""
    cpus = memory = math.inf
    with contextlib.suppress(OSError, ValueError):
        cpus = min((_cpus(*group) for group in _groups(proc, "cpu")), default=math.inf)
    with contextlib.suppress(OSError, ValueError):
        for version, folder in _groups(proc, "memory"):
            name = "memory.limit_in_bytes" if version == 1 else "memory.max"
            memory = min(memory, _number(folder, name))
    limited = int(memory) if memory < _UNLIMITED else None
    return Limits(cpus if cpus < math.inf else None, limited)


def throttling(proc: Path = _SELF) -> Throttling | None:
    """Return the throttling so far, or None without a quota.

    Of nested groups, the one that was stopped longest counts.
    """
    found: list[Throttling] = []
    with contextlib.suppress(OSError, ValueError):
        for version, folder in _groups(proc, "cpu"):
            if _cpus(version, folder) == math.inf:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):
                words = (folder / "cpu.stat").read_text().split()
                stat = dict(zip(words[::2], map(int, words[1::2]), strict=True))
                key, per_s = ("throttled_time", 1e9) if version == 1 else ("throttled_usec", 1e6)
                found.append(
                    Throttling(stat["nr_periods"], stat["nr_throttled"], stat[key] / per_s)
                )
    return max(found, key=lambda one: one.stopped_s, default=None)
