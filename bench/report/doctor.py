"""The words of `bench doctor`: what each check found, and what to do about it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.report import reasons

Figures = Mapping[str, Any]


def _neighbours(figures: Figures) -> str:
    text = f"other processes use {figures['used']:.2f} of {figures['cpus']} CPUs"
    if figures["steal"] > 0.005:
        text += f", the host takes {figures['steal']:.0%}"
    busiest = [f"{name} (pid {pid}, {share:.0f} %)" for name, pid, share in figures["busiest"]]
    return f"{text}: {', '.join(busiest)}" if busiest else text


def _known(parts: Mapping[str, str], figures: Figures) -> str:
    """Return the texts of the figures that there are."""
    return ", ".join(text.format(**figures) for name, text in parts.items() if name in figures)


def _power(figures: Figures) -> str:
    parts = {
        "battery": "on battery ({battery:.0f} %)",
        "mains": "on mains",
        "governor": "governor {governor}",
        "thermal": "heat limits the speed to {thermal} %",
        "low_power": f"low power mode {'on' if figures.get('low_power') else 'off'}",
        "mhz": "{mhz:.0f} of {max_mhz:.0f} MHz",
    }
    return _known(parts, figures) or "this platform does not report it"


def _gpu(figures: Figures) -> str:
    parts = {
        "driver": "driver {driver}",
        "clock_mhz": "{clock_mhz} of {max_clock_mhz} MHz",
        "power_cap_w": "limit {power_cap_w:.0f} W",
        "temperature": "{temperature} degrees C",
    }
    others = f"{figures['others']} other processes compute on it" if figures["others"] else ""
    return ", ".join(filter(None, (_known(parts, figures), others)))


def _container(figures: Figures) -> str:
    parts = [f"a quota of {figures['cpus']:.2g} CPUs"] if figures["cpus"] else []
    if figures["memory_bytes"]:
        parts.append(f"a memory limit of {figures['memory_bytes'] / 2**30:.1f} GiB")
    if "periods" in figures:
        stopped = f"{figures['stopped']} of {figures['periods']} periods"
        parts.append(f"stopped in {stopped} with one busy core")
    return ", ".join(parts)


def _memory(figures: Figures) -> str:
    available, limit = (figures[f"{name}_bytes"] / 2**30 for name in ("available", "limit"))
    return f"{available:.1f} of {limit:.1f} GiB available"


def _noise(figures: Figures) -> str:
    text = (
        "in fresh processes the slowest median of an operation is {middle:.3f} times the fastest "
        "(median of {kernels} operations), {worst:.2f} times at worst ({kernel})"
    )
    return (text + ("; " + SEEN["disturbed"] if figures["disturbed"] else "")).format(**figures)


#: The words of each finding, by its code.
SEEN = {
    "clock": "tick {tick_s}, a reading costs {reading_s}",
    "host device": "works in step with the host: there is nothing to wait for",
    "unusable": "cannot be used: {message}",
    "unavailable": "{message}",
    "no nvml": "its clock, power and temperature are not known",
    "wait": "{model}: waiting for its work costs {cost_s}",
    "steadiness": (
        "best {best_s}, median {times:.2f} times that, slow in {slow:.0%} of {duration:.0f} s"
    ),
    "pinned threads": "{threads} compute threads, each on its own CPU: {cpus}",
    "threads of user": "{threads} compute threads, placed by {settings}",
    "threads of system": "{threads} compute threads, placed by the system",
    "too many threads": "{threads} compute threads on {cpus} CPUs",
    "disturbed": "{disturbed} of {timings} timings stayed disturbed",
    "probe failed": "{message}",
}
#: Findings whose words depend on which figures there are.
_MADE: dict[str, Callable[[Figures], str]] = {
    **{"neighbours": _neighbours, "power": _power, "container": _container, "gpu": _gpu},
    **{"memory": _memory, "noise": _noise},
}
REMEDIES = {
    "other clock": "choose another clock source or machine",
    "without device": "{device}, or time only the CPU: --device cpu",
    "newer system": "update macOS or the driver, or install a torch that was built for it",
    "wait for host": "other virtual machines use the CPU: try again later",
    "stop or fewer threads": "stop them, or measure with fewer threads (--threads)",
    "stop if possible": "stop them if you can: they share caches and memory",
    "cores in use": "other work uses the cores, or their clock changes: see the other lines",
    "fewer threads": "use fewer: --threads N",
    "install nvml": "pip install 'torch-device-bench[nvidia]' shows them",
    "gpu in use": "stop the other processes: they share the GPU",
    "gpu hot": "cool the GPU: heat lowers its clock",
    "gpu capped": "raise its power limit to the default, or compare only with runs under this one",
    "hot": "let the machine cool down",
    "plug in": "plug the machine in",
    "governor": "cpupower frequency-set -g performance",
    "low power mode": "switch low power mode off",
    "raise quota": "raise the quota (docker run --cpus), or measure with --threads 1",
    "close programs": "close programs: the largest cells would swap",
    "fix above or wait": "fix the findings above, or try again later",
    "fix above and repeat": (
        "changes below {percent} % cannot be detected: fix the findings above, then measure again"
    ),
    "fix first": "fix this first",
}


def seen(code: str, figures: Figures) -> str:
    """Return what a check found as text."""
    return _MADE[code](figures) if code in _MADE else reasons.fill(SEEN[code], figures)


def remedy(codes: Sequence[str], figures: Figures) -> str:
    """Return what to do about a finding as text, empty if there is nothing to do."""
    known = {
        "percent": math.ceil(100 * (figures.get("middle", 1) - 1)),
        "device": reasons.remedy(figures.get("message", "")),
    }
    return "; ".join(REMEDIES[code].format(**known) for code in codes)
