"""What the threads of this process did, how long they waited, and what others used."""

import contextlib
import ctypes
import ctypes.util
import functools
import os
import platform
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

_TASKS = Path("/proc/self/task")
#: Words of 64 bits in macOS's ``struct rusage_info_v4`` (sys/resource.h) after the UUID, and the
#: places of user, system and runnable time among them. Runnable time includes running time.
_RUSAGE_V4, _WORDS, _USER, _SYSTEM, _RUNNABLE = 4, 35, 0, 1, 34


class Sample(NamedTuple):
    """Seconds since some start; `waited_s` is None if the platform does not report it.

    `others_s` is the CPU time of all threads except the calling one. `waited_s` is the time in
    which a thread was ready to run but another process had its CPU, summed over the threads.
    """

    others_s: float
    waited_s: float | None


@dataclass
class ThreadTimes:
    """Reads the times of the threads of this process, in some microseconds on Linux.

    Linux counts them in ``/proc/<pid>/task/<tid>/schedstat`` (Documentation/scheduler/
    sched-stats.rst): nanoseconds on a CPU, nanoseconds of waiting for one, and time slices.
    """

    files: dict[str, int] = field(default_factory=dict)
    tasks: Path = _TASKS

    def discover(self) -> None:
        """Look for threads that have started or ended; `read` reads those known."""
        try:
            now = set(os.listdir(self.tasks))
        except OSError:
            now = set()
        for name in self.files.keys() - now:
            os.close(self.files.pop(name))
        for name in now - self.files.keys():
            try:
                path = self.tasks / name / "schedstat"
                self.files[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # the thread has ended, or this kernel does not count
                continue

    def read(self) -> Sample:
        """Return the times until now."""
        others = waited = 0
        own = str(threading.get_native_id())
        for name, file in self.files.items():
            try:
                ran, ready, *_ = map(int, os.pread(file, 64, 0).split())
            except (OSError, ValueError):  # the thread has ended
                continue
            others += ran if name != own else 0
            waited += ready
        if self.files:
            return Sample(others / 1e9, waited / 1e9)
        return Sample(time.process_time() - time.thread_time(), _waited_elsewhere())

    def asleep(self) -> bool:
        """Whether all threads that are known, except the calling one, sleep.

        True where the platform does not report it.
        """
        own = str(threading.get_native_id())
        for name in self.files.keys() - {own}:
            # The state follows the name of the thread, which may hold parentheses itself (proc(5)).
            with contextlib.suppress(OSError):  # the thread has ended
                if (self.tasks / name / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return False
        return True

    def close(self) -> None:
        """Close all files."""
        for file in self.files.values():
            os.close(file)
        self.files.clear()


def used_by_others_s() -> float:
    """Return the CPU time that all but this process and its children used so far, in seconds.

    Children that have ended count from when this process has waited for them. Linux counts in ticks
    of 10 ms; time that a virtual machine was not given counts as used.
    """
    times = psutil.cpu_times()._asdict()
    # On Linux, the time of guests is part of `user` and `nice`.
    idle = ("idle", "iowait", "guest", "guest_nice")
    total = sum(seconds for name, seconds in times.items() if name not in idle)
    me = psutil.Process()
    own = sum(me.cpu_times()[:4])
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            own += sum(child.cpu_times()[:4])
    return float(total - own)


@functools.cache
def _tick_s() -> float:
    """Return the seconds of one tick of macOS's absolute time: 1 ns on Intel, 42 ns on Apple."""
    base = (ctypes.c_uint32 * 2)()
    ctypes.CDLL(None).mach_timebase_info(ctypes.byref(base))
    return base[0] / base[1] / 1e9


def _waited_elsewhere() -> float | None:
    """Return how long the threads of this process waited for a CPU on macOS; None elsewhere."""
    if platform.system() != "Darwin":
        return None
    try:
        info = (ctypes.c_uint64 * (2 + _WORDS))()
        call = ctypes.CDLL(ctypes.util.find_library("proc")).proc_pid_rusage
        if call(os.getpid(), _RUSAGE_V4, ctypes.byref(info)) != 0:
            return None
        words = info[2:]
        waited = words[_RUNNABLE] - words[_USER] - words[_SYSTEM]
        return max(0, waited) * _tick_s()
    except (AttributeError, OSError, TypeError):  # an older macOS
        return None
