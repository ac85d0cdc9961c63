"""Check whether this machine is fit for measurements; findings are codes with figures."""

import contextlib
import itertools
import json
import os
import re
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
    calibration,
    cgroup,
    devices,
    environment,
    gpu,
    kernels,
    operations,
    placement,
)
from bench.measure.kernels import ReferenceKernel
from bench.records.lines import last_line

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


def _finding(name: str, code: str, unfit: str | None = None, **figures: Any) -> Finding:
    """Return a finding; with a remedy, `unfit`, the machine is unfit."""
    return Finding(name, code, figures, (unfit,) if unfit else (), not unfit)


def clock() -> Finding:
    """Check the resolution and the cost of the host's clock."""
    readings = [time.perf_counter() for _ in range(20_000)]
    steps = [b - a for a, b in itertools.pairwise(readings)]
    tick = min(step for step in steps if step > 0)
    remedy = "other clock" if tick > CLOCK_TICK_S else None
    return _finding("clock", "clock", remedy, tick_s=tick, reading_s=statistics.median(steps))


def device(found: devices.Device) -> Finding:
    """Check that waiting for a device works, and what it costs."""
    name = f"device {found.name}"
    if found.is_host:
        return _finding(name, "host device")
    if fault := found.fault():  # the CPU can still be measured
        return Finding(name, "unusable", {"message": fault}, ("without device",))
    return _finding(name, "wait", model=found.model, cost_s=found.clock_cost())


def gpu_state(found: devices.Device) -> Finding | None:
    """Check the clock, the power, the temperature and the other processes of an NVIDIA GPU."""
    if found.torch_device.type != "cuda" or found.is_host:
        return None
    name, state = f"gpu {found.name}", gpu.read(found.torch_device)
    if state is None:
        return Finding(name, "no nvml", {}, ("install nvml",))
    capped = bool(state.power_cap_w and state.usual_cap_w and state.power_cap_w < state.usual_cap_w)
    seen = {"gpu in use": state.others, "gpu hot": state.hot, "gpu capped": capped}
    remedies = tuple(remedy for remedy, on in seen.items() if on)
    figures = {key: value for key, value in vars(state).items() if value is not None}
    return Finding(name, "gpu", figures, remedies, not (state.others or state.hot))


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
    """Check how much of the CPU other processes and virtual machines use now."""
    used, steal, busiest = _used(seconds)
    cpus = environment.cpu_count()
    unfit = None
    if steal > MAX_STEAL:
        unfit = "wait for host"
    elif cpus - used < environment.current().threads - SPARE_CPUS:
        unfit = "stop or fewer threads"
    advice = unfit or ("stop if possible" if used > SPARE_CPUS else "")
    figures = {"used": used, "cpus": cpus, "steal": steal, "busiest": busiest}
    return Finding("neighbours", "neighbours", figures, (advice,) if advice else (), not unfit)


def steadiness(kernel: ReferenceKernel, seconds: float = 1.0) -> Finding:
    """Check how often a reference kernel takes longer than its limit."""
    kernel.search(seconds / 2)
    readings = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        readings.append(kernel.slowdown(kernel.read()))
    slow = sum(reading >= kernel.limit for reading in readings) / len(readings)
    figures = {"best_s": kernel.best_s, "times": statistics.median(readings), "slow": slow}
    remedy = "cores in use" if slow > MAX_SLOW else None
    return _finding(kernel.name, "steadiness", remedy, **figures, duration=seconds)


def thread_placement(placed: placement.Placement) -> Finding:
    """Check where the compute threads run."""
    count, cpus = environment.current().threads, environment.cpu_count()
    settings = [f"{key}={os.environ[key]}" for key in placement.PLACED_BY_USER if key in os.environ]
    if placed.cpus:
        where = sorted(placed.cpus.values())
        return _finding("threads", "pinned threads", threads=count, cpus=where)
    if settings:
        return _finding("threads", "threads of user", threads=count, settings=", ".join(settings))
    if count > cpus:
        return _finding("threads", "too many threads", "fewer threads", threads=count, cpus=cpus)
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
        settings = devices.run_program("/usr/bin/pmset", "-g").stdout
        modes = dict(re.findall(r"^\s*(\w+)\s+(\d+)", settings, re.M))
        # Macs with a high power mode print powermode: 0 automatic, 1 low, 2 high.
        figures["low_power"] = "1" in (modes.get("lowpowermode"), modes.get("powermode"))
        remedies += ["low power mode"] if figures["low_power"] else []
        thermal = devices.run_program("/usr/bin/pmset", "-g", "therm").stdout
        limit = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", thermal)
        if limit and int(limit[1]) < 100:
            figures["thermal"] = int(limit[1])
            remedies.append("hot")
    frequency = None
    with contextlib.suppress(Exception):  # on some Macs psutil raises RuntimeError or SystemError
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    if frequency and frequency.max:
        figures |= {"mhz": frequency.current, "max_mhz": frequency.max}
    fit = not {"battery", "thermal"} & figures.keys() and not figures.get("low_power")
    return Finding("power", "power", figures, tuple(remedies), fit)


def container() -> Finding | None:
    """Check the limits of a container; None without limits, unfit if a quota stops the threads."""
    limits, before = cgroup.limits(), cgroup.throttling()
    if limits == cgroup.Limits():
        return None
    figures: dict[str, Any] = {"cpus": limits.cpus, "memory_bytes": limits.memory_bytes}
    remedy = None
    if before is not None and limits.cpus is not None:
        end = time.perf_counter() + QUOTA_S
        while time.perf_counter() < end:  # one busy core reveals a quota below one CPU
            pass
        after = cgroup.throttling()
        assert after is not None
        found = after - before
        figures |= {"stopped": found.throttled, "periods": found.periods}
        if found.throttled or environment.current().threads > limits.cpus:
            remedy = "raise quota"
    return _finding("container", "container", remedy, **figures)


def memory() -> Finding:
    """Check the free memory."""
    limit = environment.memory_bytes()
    available = min(psutil.virtual_memory().available, limit)
    remedy = "close programs" if available < MEMORY_BYTES else None
    return _finding("memory", "memory", remedy, available_bytes=available, limit_bytes=limit)


def fresh_runs(name: str, processes: int, report: Callable[[str], None]) -> list[operations.Found]:
    """Time the same twelve operations in fresh processes of unchanged code.

    `report` receives a line of progress per process. Raises ProbeFailed.
    """
    runs = []
    for number in range(1, processes + 1):
        report(f"noise floor on {name}: process {number} of {processes}")
        command = [sys.executable, "-m", "bench.measure.operations", name]
        done = subprocess.run(command, capture_output=True, errors="replace", check=False)
        if done.returncode:
            raise ProbeFailed(f"a process on {name} failed: {last_line(done.stderr)}")
        runs.append(json.loads(done.stdout))
    return runs


def probe_failed(name: str, problem: ProbeFailed) -> Finding:
    """Return the finding for a device whose processes failed."""
    return _finding(f"noise {name}", "probe failed", "fix first", message=str(problem))


def noise(name: str, runs: Sequence[operations.Found]) -> Finding:
    """Judge the medians of each operation over runs of unchanged code (an A/A test)."""
    medians: dict[str, list[float]] = {}
    for operation, result in itertools.chain.from_iterable(run.items() for run in runs):
        if not result["faults"]:
            medians.setdefault(operation, []).append(result["median_s"])
    name, timings = f"noise {name}", sum(map(len, runs))
    disturbed = timings - sum(map(len, medians.values()))
    figures: dict[str, Any] = {"disturbed": disturbed, "timings": timings}
    ratios = {key: max(times) / min(times) for key, times in medians.items() if len(times) > 1}
    if disturbed > timings / 2 or not ratios:
        return _finding(name, "disturbed", "fix above or wait", **figures)
    middle, worst = statistics.median(ratios.values()), max(ratios, key=lambda key: ratios[key])
    figures |= {"middle": middle, "kernels": len(ratios), "worst": ratios[worst], "kernel": worst}
    remedy = "fix above and repeat" if middle > MAX_NOISE else None
    return _finding(name, "noise", remedy, **figures)


def examine(names: Sequence[str]) -> Iterator[Finding]:
    """Check everything but the noise between processes, the quick checks first."""
    yield clock()
    yield memory()
    if limited := container():
        yield limited
    yield power()
    yield neighbours()
    reference = kernels.ReferenceKernels(kernels.all_kernels())
    reference.load(calibration.known(environment.current().key))
    yield from map(steadiness, reference.of_threads(several=False))
    placed = placement.place()
    try:
        yield thread_placement(placed)
        yield from map(steadiness, reference.of_threads(several=True).without_long())
    finally:
        placed.undo()
    for found in map(devices.find, names):
        yield device(found)
        if state := gpu_state(found):
            yield state
    if message := devices.unavailable():
        yield Finding("accelerator", "unavailable", {"message": message}, ("newer system",))
