"""Is this machine fit to measure on? What was looked at, what was seen, and what to do about it."""

import contextlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measure import (
    calibration,
    cgroup,
    devices,
    disturbance,
    environment,
    operations,
    placement,
)
from bench.report import units

#: A clock coarser than this cannot see a round of 1 ms to a thousandth.
CLOCK_TICK_S = 1e-6
#: CPUs that others may use while all compute threads still have one each, and a little more.
SPARE_CPUS = 0.2
#: Share of CPU time that the host may take from a virtual machine, ...
MAX_STEAL = 0.05
#: ... and share of a second in which the yardstick may be slow: half of a run's repeats.
MAX_SLOW = 0.25
#: Seconds of work of one core that show whether a quota stops it: five periods of 100 ms.
QUOTA_S = 0.5
#: Memory below which the largest cells make the system swap.
MEMORY_BYTES = 2 * 2**30
#: Largest over smallest median of a kernel over fresh processes, in the middle of the kernels. It
#: is 1.02 to 1.05 on a quiet machine; from this on a change of 10 % cannot be seen.
MAX_NOISE = 1.10


class ProbeFailed(Exception):
    """A process that should time kernels did not end well; the message is one line."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: figures in words, and a remedy where there is one to name.

    Where not `fit`, times of this machine cannot be trusted; a remedy beside `fit` is advice.
    """

    name: str
    seen: str
    remedy: str = ""
    fit: bool = True


def clock() -> Finding:
    """Resolution and cost of the host's clock."""
    readings = [time.perf_counter() for _ in range(20_000)]
    steps = [b - a for a, b in itertools.pairwise(readings)]
    tick = min(step for step in steps if step > 0)
    seen = f"tick {units.seconds(tick)}, a reading costs {units.seconds(statistics.median(steps))}"
    if tick > CLOCK_TICK_S:
        return Finding("clock", seen, "no remedy: choose another clock source or machine", False)
    return Finding("clock", seen)


def device(found: devices.Device) -> Finding:
    """Whether the wait for a device waits, and what it costs."""
    name = f"device {found.name}"
    if found.is_host:
        return Finding(name, "works in step with the host: nothing to wait for")
    seen = f"{found.model}: waiting for the idle device costs {units.seconds(found.clock_cost())}"
    if not found.wait_waits(found.long_work):
        return Finding(name, "waiting does not wait for its work", "update torch or driver", False)
    return Finding(name, seen)


def _used(seconds: float) -> tuple[float, float, list[str]]:
    """CPUs in use by others, share of time the host took, and the busiest processes."""
    watched = [p for p in psutil.process_iter(["name"]) if p.pid != os.getpid()]
    for process in watched:
        _cpu_percent(process)
    before, own = psutil.cpu_times(), time.process_time()
    time.sleep(seconds)
    after, own = psutil.cpu_times(), time.process_time() - own
    spent = {name: getattr(after, name) - getattr(before, name) for name in before._fields}
    idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    # guest time is counted in user time already
    total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    steal = spent.get("steal", 0.0)
    busiest = sorted(((_cpu_percent(p), p) for p in watched), key=lambda pair: -pair[0])
    names = [f"{p.info['name']} (pid {p.pid}, {share:.0f} %)" for share, p in busiest if share > 10]
    cpus = psutil.cpu_count() or 1
    used = (total - idle - steal) / total * cpus if total > 0 else 0.0
    return max(0.0, used - own / seconds), steal / total if total > 0 else 0.0, names[:3]


def _cpu_percent(process: psutil.Process) -> float:
    try:
        return process.cpu_percent()
    except psutil.Error:  # it has ended, or belongs to someone else
        return 0.0


def neighbours(seconds: float = 1.0) -> Finding:
    """Other processes that use the CPU while this one sleeps, and other virtual machines."""
    used, steal, names = _used(seconds)
    cpus = environment.cpu_count()
    wanted = environment.current().threads
    seen = f"others use {used:.2f} of {cpus} CPUs"
    if steal > 0.005:
        seen += f", the host takes {steal:.0%}"
    if names:
        seen += f": {', '.join(names)}"
    if steal > MAX_STEAL:
        return Finding("neighbours", seen, "other virtual machines: come back later", False)
    if cpus - used < wanted - SPARE_CPUS:
        return Finding(
            "neighbours", seen, "stop them, or measure with fewer threads (--threads)", False
        )
    remedy = "stop them if you can; they share caches and memory" if used > SPARE_CPUS else ""
    return Finding("neighbours", seen, remedy)


def steadiness(
    name: str,
    work: Callable[[], object],
    limit: float,
    seconds: float = 1.0,
    known_s: float = math.inf,
) -> Finding:
    """How often a fixed piece of work takes longer than `limit` times its best (or `known_s`)."""
    stick = disturbance.Yardstick(work, search_s=seconds / 2)
    stick.best_s = min(stick.best_s, known_s)
    readings = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        readings.append(stick.read())
    slow = sum(reading >= limit for reading in readings) / len(readings)
    seen = (
        f"{units.seconds(stick.best_s)} at best, {statistics.median(readings):.2f} times that in "
        f"the middle, slow in {slow:.0%} of {seconds:.0f} s"
    )
    if slow > MAX_SLOW:
        remedy = "something else uses the cores, or their clock changes: see the other lines"
        return Finding(name, seen, remedy, False)
    return Finding(name, seen)


def thread_placement(placed: placement.Placement) -> Finding:
    """Where the compute threads run."""
    count = environment.current().threads
    cpus = sorted(placed.cpus.values())
    given = [
        f"{name}={os.environ[name]}" for name in placement.PLACED_BY_USER if name in os.environ
    ]
    if cpus:
        return Finding("threads", f"{count} compute threads, on a CPU each: {cpus}")
    if given:
        return Finding("threads", f"{count} compute threads, placed by {', '.join(given)}")
    if count > environment.cpu_count():
        seen = f"{count} compute threads on {environment.cpu_count()} CPUs"
        return Finding("threads", seen, "use fewer: --threads N", False)
    return Finding("threads", f"{count} compute threads, placed by the system")


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def power() -> Finding:
    """Mains or battery, and the power mode, where the platform tells."""
    seen, remedies, fit = [], [], True
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None and battery.power_plugged is False:
        seen.append(f"on battery ({battery.percent:.0f} %)")
        remedies.append("plug the machine in")
        fit = False
    elif battery is not None:
        seen.append("on mains")
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        seen.append(f"governor {governor}")
        if governor == "powersave" and "intel_pstate" not in _read(
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver"
        ):
            remedies.append("cpupower frequency-set -g performance")
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/bin/pmset", "-g"], capture_output=True, text=True, check=False
        )
        low = any(line.split() == ["lowpowermode", "1"] for line in asked.stdout.splitlines())
        seen.append(f"low power mode {'on' if low else 'off'}")
        if low:
            remedies.append("switch low power mode off")
            fit = False
    frequency = None
    with contextlib.suppress(Exception):  # on some Macs psutil raises RuntimeError or SystemError
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    if frequency and frequency.max:
        seen.append(f"{frequency.current:.0f} of {frequency.max:.0f} MHz")
    return Finding("power", ", ".join(seen) or "not told here", "; ".join(remedies), fit)


def container() -> Finding | None:
    """Limits of a container, None where there are none; unfit where the quota stops the threads."""
    limits, before = cgroup.limits(), cgroup.throttling()
    if limits == cgroup.Limits():
        return None
    seen = [f"a quota of {limits.cpus:.2g} CPUs"] if limits.cpus else []
    if limits.memory_bytes:
        seen.append(f"a memory limit of {limits.memory_bytes / 2**30:.1f} GiB")
    fit = True
    if before is not None and limits.cpus is not None:
        end = time.perf_counter() + QUOTA_S
        while time.perf_counter() < end:  # one core at work shows a quota below one CPU
            pass
        after = cgroup.throttling()
        assert after is not None
        found = after - before
        seen.append(
            f"stopped in {found.throttled} of {found.periods} periods with one core at work"
        )
        fit = not found.throttled and environment.current().threads <= limits.cpus
    remedy = "" if fit else "raise the quota (docker run --cpus), or measure with --threads 1"
    return Finding("container", ", ".join(seen), remedy, fit)


def room() -> Finding:
    """Memory that is free."""
    memory = psutil.virtual_memory()
    limit = environment.memory_bytes()
    available = min(memory.available, limit)
    seen = f"{available / 2**30:.1f} of {limit / 2**30:.1f} GiB available"
    if available < MEMORY_BYTES:
        return Finding("memory", seen, "close programs: the largest cells would swap", False)
    return Finding("memory", seen)


def fresh_runs(name: str, processes: int, tell: Callable[[str], None]) -> list[operations.Found]:
    """Time the same twelve kernels in fresh processes of unchanged code; ProbeFailed."""
    runs = []
    for number in range(1, processes + 1):
        tell(f"noise floor on {name}: process {number} of {processes}")
        command = [sys.executable, "-m", "bench.measure.operations", "--device", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ProbeFailed(f"a process on {name} failed: {last}")
        runs.append(json.loads(done.stdout))
    return runs


def noise(name: str, runs: Sequence[operations.Found]) -> Finding:
    """Judge the medians of each kernel over runs of unchanged code (an A/A test)."""
    medians: dict[str, list[float]] = {}
    disturbed = 0
    for run in runs:
        for kernel, told in run.items():
            medians.setdefault(kernel, [])
            if told["faults"]:
                disturbed += 1
            else:
                medians[kernel].append(told["median_s"])
    return judge_noise(f"noise {name}", medians, disturbed)


def judge_noise(name: str, medians: dict[str, list[float]], disturbed: int) -> Finding:
    """Judge medians of each kernel over processes; `disturbed` of all never settled."""
    measured = sum(map(len, medians.values()))
    ratios = {kernel: max(t) / min(t) for kernel, t in medians.items() if len(t) > 1}
    if disturbed > measured or not ratios:
        seen = f"{disturbed} of {measured + disturbed} timings never settled"
        return Finding(name, seen, "mend what stands above, or come back later", False)
    middle, worst = statistics.median(ratios.values()), max(ratios, key=lambda key: ratios[key])
    seen = (
        f"over fresh processes the slowest median of a kernel is {middle:.3f} times the "
        f"fastest in the middle of {len(ratios)}, {ratios[worst]:.2f} at worst ({worst})"
    )
    if disturbed:
        seen += f"; {disturbed} of {measured + disturbed} timings never settled"
    if middle > MAX_NOISE:
        percent = math.ceil(100 * (middle - 1))
        remedy = f"changes below {percent} % cannot be seen: mend what stands above, measure later"
        return Finding(name, seen, remedy, False)
    return Finding(name, seen)


def examine(names: Sequence[str]) -> Iterator[Finding]:
    """Look at everything but the noise between processes, the quick things first."""
    yield clock()
    yield room()
    if limited := container():
        yield limited
    yield power()
    yield neighbours()
    known = calibration.known(environment.current().key)
    core, team, pace = (
        known.get(name, math.inf) for name in (disturbance.CORE, disturbance.TEAM, disturbance.PACE)
    )
    yield steadiness("core", disturbance.digest, disturbance.SLOW_CORE, known_s=core)
    placed = placement.place()
    try:
        yield thread_placement(placed)
        if environment.current().threads > 1:
            yield steadiness("all cores", placement.pace(), disturbance.SLOW_PACE, known_s=pace)
            yield steadiness(
                "threads together", placement.meet(), disturbance.SLOW_TEAM, known_s=team
            )
    finally:
        placed.undo()
    yield from map(device, map(devices.find, names))
