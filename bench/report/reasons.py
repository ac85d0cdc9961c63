"""The words of a row's reason: what disturbed a cell, which operators ran on the CPU ..."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.report import units

#: The words of each disturbance, by its code.
WORDS = {
    "wide": "its time is uncertain: the ends of its interval differ by a factor of {times:.2g}",
    "uneven": "the median of its rounds is {times:.2g} times the shortest",
    "slow_core": (
        "the core ran {times:.2g} times slower than at its best: another process or virtual "
        "machine used it, or its clock was lower"
    ),
    "slow_throughput": (
        "the slowest core in use ran {times:.2g} times slower than at its best: another process or "
        "virtual machine used it"
    ),
    "slow_synchronisation": (
        "the threads took {times:.2g} times as long to synchronise as at their best: another "
        "process used one of their cores, or the threads moved to distant cores"
    ),
    "slow_memory": (
        "copying memory took {times:.2g} times as long as at its best: another process or virtual "
        "machine used the memory or the last cache"
    ),
    "slow_device": (
        "the accelerator ran {times:.2g} times slower than at its best: heat or a limit of its "
        "power lowered its clock, or another program used it"
    ),
    "stolen": "other processes took {share:.0%} of the time of the rounds",
    "throttled": (
        "the CPU quota of the container stopped this process in {stopped} of {periods} periods"
    ),
}


def fill(text: str, figures: Mapping[str, Any]) -> str:
    """Return a text with its figures; those whose names end in ``_s`` are seconds."""
    return text.format(
        **{name: units.seconds(v) if name.endswith("_s") else v for name, v in figures.items()}
    )


def disturbances(found: Iterable[tuple[str, Mapping[str, float]]]) -> str:
    """Return disturbances, each a code with its figures, as one line of text."""
    return "; ".join(fill(WORDS[code], figures) for code, figures in found)


def denormal(share: float) -> str:
    """Return the note on a cell of whose data this share became denormal."""
    return f"{share:.0%} of its data became denormal during the rounds"


def fallback(operators: Sequence[str]) -> str:
    """Return the reason of a cell whose operators ran on the CPU instead of the device."""
    return f"ran on the CPU in part: {', '.join(operators)}"


def absurd(kernels: Sequence[str]) -> str:
    """Return the words for a calibration cache whose times of these kernels are absurd."""
    return (
        f"the calibration cache was thrown away: its best time of {', '.join(kernels)} is no time "
        "of this machine"
    )


def changed_state(parts: Sequence[str]) -> str:
    """Return a sentence on the state of the process that a benchmark changed."""
    return f"the benchmark changed, and the suite restored: {', '.join(parts)}"


def remedy(fault: str) -> str:
    """Return what to do about a device that cannot be used."""
    remedies = {
        "no kernel image": "install a torch that was built for this GPU",
        "out of memory": "end the programs that hold its memory; a virtual Mac may have none",
        "does not wait": "update torch or the driver",
    }
    found = (remedy for words, remedy in remedies.items() if words in fault)
    return next(found, "update the driver or torch")


def unusable(device: str, fault: str) -> str:
    """Return one line on a device that cannot be used: what is wrong, and what to do."""
    advice = f"{remedy(fault)}, or time only the CPU with --device cpu"
    return f"{device} cannot be used: {fault}; {advice}"


def lost(device: str, fault: str) -> str:
    """Return one line on a device that a cell has made unusable for its process."""
    return f"{device} has failed since an earlier cell of this process: {fault}"


def heated(device: str, times: float) -> str:
    """Return one line on an accelerator that was slower at the end of a run than at its start."""
    return (
        f"{device} took {times:.2g} times as long for the same work at the end of the run as at "
        "its start (heat, or a limit of its power): do not compare its cells with each other; "
        "cool it, or time fewer cells at once"
    )
