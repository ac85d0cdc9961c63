"""What a container may use: the CPU quota and memory limit of Linux control groups (v1 and v2).

``docker run --cpus 0.3`` and CPU limits of Kubernetes are quotas, not affinities: every CPU stays
visible, and once the quota of a period is used up, all threads stop until the next period.
Sources: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and
scheduler/sched-bwc.rst; proc_pid_cgroup(5), proc_pid_mountinfo(5).
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SELF = Path("/proc/self")
#: A version 1 memory limit from here on means "none": the kernel rounds 2**63 - 1 to pages.
_UNLIMITED = 2**62


@dataclass(frozen=True)
class Limits:
    """CPUs' worth of time and bytes of memory that this process may use; None means no limit."""

    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Throttling:
    """Enforcement periods so far, in how many of them the group was stopped, and for how long.

    `stopped_s` sums over the CPUs of the group: two CPUs stopped for one second count two seconds.
    """

    periods: int
    throttled: int
    stopped_s: float

    def __sub__(self, before: "Throttling") -> "Throttling":
        """Return what happened since `before`."""
        return Throttling(
            self.periods - before.periods,
            self.throttled - before.throttled,
            self.stopped_s - before.stopped_s,
        )


def _unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo, which has no spaces in a path."""
    return text.encode("latin-1", "replace").decode("unicode_escape") if "\\" in text else text


def _groups(proc: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of each control group of this process, its ancestors included.

    Only groups that `controller` (``cpu`` or ``memory``) governs. Without a cgroup namespace the
    kernel reports paths of the host, of which only those below the mounted root are visible.
    """
    memberships = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    for line in (proc / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, mounted = map(_unescape, left.split()[3:5])
        kind, _, options = [*right.split(), "", "", ""][:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup" and controller not in options.split(","):
            continue
        for _, controllers, path in memberships:
            if (kind == "cgroup2") != (controllers == ""):
                continue
            if kind == "cgroup" and controller not in controllers.split(","):
                continue
            inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
            top = Path(mounted)
            folders = [top / inside, *(top / parent for parent in inside.parents)]
            yield from (
                (2 if kind == "cgroup2" else 1, folder) for folder in dict.fromkeys(folders)
            )


def _number(folder: Path, name: str) -> float:
    """Return the first number of a file, infinity where it is absent or says ``max``."""
    try:
        word = (folder / name).read_text().split()[0]
        return math.inf if word == "max" else float(word)
    except (OSError, ValueError, IndexError):
        return math.inf


def _cpus(version: int, folder: Path) -> float:
    """Return the CPUs' worth of time that one group may use, infinity without a quota."""
    if version == 1:
        quota, period = (_number(folder, f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    else:
        quota = _number(folder, "cpu.max")
        try:
            period = float((folder / "cpu.max").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            period = math.inf
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
    return Limits(
        cpus if cpus < math.inf else None,
        int(memory) if memory < _UNLIMITED else None,
    )


def throttling(proc: Path = _SELF) -> Throttling | None:
    """Return what the quota has done so far, None where no group of this process has one.

    Of nested groups, the one that was stopped for the longest counts.
    """
    found: list[Throttling] = []
    with contextlib.suppress(OSError, ValueError):
        for version, folder in _groups(proc, "cpu"):
            if _cpus(version, folder) == math.inf:
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):
                words = (folder / "cpu.stat").read_text().split()
                stat = dict(zip(words[::2], map(int, words[1::2]), strict=True))
                stopped = (
                    stat["throttled_time"] / 1e9 if version == 1 else stat["throttled_usec"] / 1e6
                )
                found.append(Throttling(stat["nr_periods"], stat["nr_throttled"], stopped))
    return max(found, key=lambda one: one.stopped_s, default=None)
