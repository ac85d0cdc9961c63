"""Check whether this machine is fit to measure on; findings are codes with figures."""

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.measure import (
    cgroup,
    devices,
    environment,
    kernels,
    operations,
    placement,
)
from bench.measure.kernels import ReferenceKernel

#: A clock coarser than this cannot resolve a thousandth of a round of 1 ms.
CLOCK_TICK_S = 1e-6
#: CPUs that other processes may use although no CPU is spare for them.
SPARE_CPUS = 0.2
#: Share of CPU time that the host may take from a virtual machine.
MAX_STEAL = 0.05
#: Share of readings of a reference kernel that may be slow: half of a run's repeats.
MAX_SLOW = 0.25
#: Seconds of work on one core that show whether a quota stops it: five periods of 100 ms.
QUOTA_S = 0.5
#: With less free memory, the largest cells make the system swap.
MEMORY_BYTES = 2 * 2**30
#: Limit of the median over the kernels of the largest over the smallest median of one kernel in
#: fresh processes. It is 1.02 to 1.05 on a quiet machine; above 1.10, changes of 10 % are hidden.
MAX_NOISE = 1.10


class ProbeFailed(Exception):
    """A process that should time kernels failed; the message is one line."""


@dataclass(frozen=True)
class Finding:
    """The result of one check: a code with its figures, for which report/doctor.py has the words.

    `remedies` are codes too. If not `fit`, times of this machine cannot be trusted; a remedy of a
    fit machine is advice.
    """

    name: str
    code: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()
    fit: bool = True


def _finding(
    name: str, code: str, fit: bool = True, remedies: tuple[str, ...] = (), **figures: Any
) -> Finding:
    return Finding(name, code, figures, remedies, fit)


def clock() -> Finding:
    """Check the resolution and the cost of the host's clock."""
    readings = [time.perf_counter() for _ in range(20_000)]
    steps = [b - a for a, b in itertools.pairwise(readings)]
    tick = min(step for step in steps if step > 0)
    fit = tick <= CLOCK_TICK_S
    remedies = () if fit else ("other clock",)
    cost = statistics.median(steps)
    return _finding("clock", "clock", fit, remedies, tick_s=tick, reading_s=cost)


def device(found: devices.Device) -> Finding:
    """Check that waiting for a device works, and what it costs."""
    name = f"device {found.name}"
    if found.is_host:
        return _finding(name, "host device")
    cost = found.clock_cost()
    if not found.wait_waits(found.long_work):
        return _finding(name, "no wait", False, ("update driver",))
    return _finding(name, "wait", model=found.model, cost_s=cost)


def _used(seconds: float) -> tuple[float, float, list[tuple[str, int, float]]]:
    """Return the CPUs that others use, the share of the host, and the busiest processes.

    A process is its name, its id and its use of a CPU in percent.
    """
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
    names = [(p.info["name"], p.pid, share) for share, p in busiest if share > 10]
    cpus = psutil.cpu_count() or 1
    used = (total - idle - steal) / total * cpus if total > 0 else 0.0
    return max(0.0, used - own / seconds), steal / total if total > 0 else 0.0, names[:3]


def _cpu_percent(process: psutil.Process) -> float:
    try:
        return process.cpu_percent()
    except psutil.Error:  # it has ended, or belongs to another user
        return 0.0


def neighbours(seconds: float = 1.0) -> Finding:
    """Check which other processes and virtual machines use the CPU while this one sleeps."""
    used, steal, busiest = _used(seconds)
    cpus = environment.cpu_count()
    fit, remedy = True, "stop if possible" if used > SPARE_CPUS else ""
    if steal > MAX_STEAL:
        fit, remedy = False, "wait for host"
    elif cpus - used < environment.current().threads - SPARE_CPUS:
        fit, remedy = False, "stop or fewer threads"
    figures = {"used": used, "cpus": cpus, "steal": steal, "busiest": busiest}
    return _finding("neighbours", "neighbours", fit, (remedy,) if remedy else (), **figures)


def steadiness(kernel: ReferenceKernel, seconds: float = 1.0) -> Finding:
    """Check how often a reference kernel takes longer than its limit."""
    kernel.search(seconds / 2)
    readings = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        readings.append(kernel.read())
    slow = sum(reading >= kernel.limit for reading in readings) / len(readings)
    fit = slow <= MAX_SLOW
    figures = {"best_s": kernel.best_s, "times": statistics.median(readings), "slow": slow}
    remedies = () if fit else ("cores in use",)
    return _finding(kernel.name, "steadiness", fit, remedies, **figures, duration=seconds)


def thread_placement(placed: placement.Placement) -> Finding:
    """Check where the compute threads run."""
    count, cpus = environment.current().threads, environment.cpu_count()
    settings = [
        f"{name}={os.environ[name]}" for name in placement.PLACED_BY_USER if name in os.environ
    ]
    if placed.cpus:
        where = sorted(placed.cpus.values())
        return _finding("threads", "pinned threads", threads=count, cpus=where)
    if settings:
        placed_by = ", ".join(settings)
        return _finding("threads", "threads of user", threads=count, settings=placed_by)
    if count > cpus:
        return _finding(
            "threads", "too many threads", False, ("fewer threads",), threads=count, cpus=cpus
        )
    return _finding("threads", "threads of system", threads=count)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def power() -> Finding:
    """Check for mains or battery and the power mode, as far as the platform reports them."""
    figures: dict[str, Any] = {}
    remedies = []
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None:
        on_battery = battery.power_plugged is False
        figures |= {"battery": battery.percent} if on_battery else {"mains": True}
        remedies += ["plug in"] if on_battery else []
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        figures["governor"] = governor
        driver = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver")
        if governor == "powersave" and "intel_pstate" not in driver:
            remedies.append("governor")
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/bin/pmset", "-g"], capture_output=True, text=True, check=False
        )
        low = any(line.split() == ["lowpowermode", "1"] for line in asked.stdout.splitlines())
        figures["low_power"] = low
        remedies += ["low power mode"] if low else []
    frequency = None
    with contextlib.suppress(Exception):  # on some Macs psutil raises RuntimeError or SystemError
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    if frequency and frequency.max:
        figures |= {"mhz": frequency.current, "max_mhz": frequency.max}
    fit = "battery" not in figures and not figures.get("low_power")
    return Finding("power", "power", figures, tuple(remedies), fit)


def container() -> Finding | None:
    """Check the limits of a container; None without limits, unfit if a quota stops the threads."""
    limits, before = cgroup.limits(), cgroup.throttling()
    if limits == cgroup.Limits():
        return None
    figures: dict[str, Any] = {"cpus": limits.cpus, "memory_bytes": limits.memory_bytes}
    fit = True
    if before is not None and limits.cpus is not None:
        end = time.perf_counter() + QUOTA_S
        while time.perf_counter() < end:  # one busy core reveals a quota below one CPU
            pass
        after = cgroup.throttling()
        assert after is not None
        found = after - before
        figures |= {"stopped": found.throttled, "periods": found.periods}
        fit = not found.throttled and environment.current().threads <= limits.cpus
    return Finding("container", "container", figures, () if fit else ("raise quota",), fit)


def memory() -> Finding:
    """Check the free memory."""
    limit = environment.memory_bytes()
    available = min(psutil.virtual_memory().available, limit)
    fit = available >= MEMORY_BYTES
    remedies = () if fit else ("close programs",)
    return _finding("memory", "memory", fit, remedies, available_bytes=available, limit_bytes=limit)


def fresh_runs(name: str, processes: int, report: Callable[[str], None]) -> list[operations.Found]:
    """Time the same twelve operations in fresh processes of unchanged code.

    `report` receives a line of progress per process. Raises ProbeFailed.
    """
    runs = []
    for number in range(1, processes + 1):
        report(f"noise floor on {name}: process {number} of {processes}")
        command = [sys.executable, "-m", "bench.measure.operations", "--device", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ProbeFailed(f"a process on {name} failed: {last}")
        runs.append(json.loads(done.stdout))
    return runs


def probe_failed(name: str, problem: ProbeFailed) -> Finding:
    """Return the finding for a device whose processes failed."""
    return _finding(f"noise {name}", "probe failed", False, ("fix first",), message=str(problem))


def noise(name: str, runs: Sequence[operations.Found]) -> Finding:
    """Judge the medians of each kernel over runs of unchanged code (an A/A test)."""
    medians: dict[str, list[float]] = {}
    disturbed = 0
    for run in runs:
        for kernel, result in run.items():
            medians.setdefault(kernel, [])
            if result["faults"]:
                disturbed += 1
            else:
                medians[kernel].append(result["median_s"])
    return judge_noise(f"noise {name}", medians, disturbed)


def judge_noise(name: str, medians: dict[str, list[float]], disturbed: int) -> Finding:
    """Judge the medians of each kernel over processes; `disturbed` timings stayed disturbed."""
    measured = sum(map(len, medians.values()))
    ratios = {kernel: max(t) / min(t) for kernel, t in medians.items() if len(t) > 1}
    figures: dict[str, Any] = {"disturbed": disturbed, "timings": measured + disturbed}
    if disturbed > measured or not ratios:
        return _finding(name, "disturbed", False, ("fix above or wait",), **figures)
    middle, worst = statistics.median(ratios.values()), max(ratios, key=lambda key: ratios[key])
    figures |= {"middle": middle, "kernels": len(ratios), "worst": ratios[worst], "kernel": worst}
    fit = middle <= MAX_NOISE
    return _finding(name, "noise", fit, () if fit else ("fix above and repeat",), **figures)


def examine(names: Sequence[str]) -> Iterator[Finding]:
    """Check everything but the noise between processes, the quick checks first."""
    yield clock()
    yield memory()
    if limited := container():
        yield limited
    yield power()
    yield neighbours()
    reference = kernels.ReferenceKernels(kernels.all_kernels())
    reference.load(environment.current().key)
    yield from map(steadiness, reference.of_one_thread())
    placed = placement.place()
    try:
        yield thread_placement(placed)
        yield from (steadiness(kernel) for kernel in reference if kernel.several_threads)
    finally:
        placed.undo()
    yield from map(device, map(devices.find, names))
