"""Findings of one kind on one dtype and device together, for a block without ``--all``."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from bench.compare.benchmarks import GROUPS
from bench.report import units
from bench.report.phrases import crossing, cut, ends, listed, name, params, times
from bench.report.sentences import against
from bench.verdicts.finding import NOTABLE

#: The words of each advice.
_ADVICE = {
    "faster": "faster",
    "slower": "slower",
    "same": "about the same",
    "unclear": "no clear difference",
}
#: Operations and sweeps that a sentence names; it counts the rest.
NAMED = 4


def together(several: Sequence[Any]) -> str:
    """Return the words on the groups of one dtype on one device."""
    first = several[0]
    known = [one for one in several if one.ratio]
    parts = []
    for advice, word in _ADVICE.items():
        if here := [one for one in known if one.advice == advice]:
            shown = _unclear(here) if advice == "unclear" else list(map(_shown, here))
            parts.append(f"{word}: {', '.join(shown)}")
    if named := [one.group for one in several if not one.ratio]:
        parts.append(f"not settled: {', '.join(named)}")
    bounded = " of those known" if any(one.exceeded for one in several) else ""
    for word, most in (("worst", max), ("best", min)):
        if found := [end for one in several if (end := getattr(one, word))]:
            subject, ratio = most(found, key=lambda end: end[1].value)
            parts.append(f"{word}{bounded}: {name(subject)} {times(ratio)}")
    errors = [one.error for one in several if one.error]
    if errors and first.topic == "dtype group":
        parts.append(f"relative error: up to {max(errors):.0e} (median of a group)")
    count = f"{sum(one.n for one in several):,} of {sum(one.total or 0 for one in several):,} cells"
    return _joined(first, f" ({count})", parts)


def _joined(one: Any, about: str, parts: Sequence[str]) -> str:
    head = f"{one.subject.dtype} on {one.subject.device} against {against(one)}{about}"
    return ". ".join([head, *(part[0].upper() + part[1:] for part in parts)])


def _shown(one: Any) -> str:
    return str(one.group) if one.advice == "same" else _factor(one)


def _unclear(several: Sequence[Any]) -> list[str]:
    """Return ``training (0.7x to 1.4x the time)`` and ``optimizers (0.8x to 2.5x)``."""
    made: list[str] = []
    for one in several:
        _, low, high = units.factors(one.ratio)
        made.append(f"{one.group} ({low}x to {high}x{'' if made else ' the time'})")
    return made


def _factor(one: Any) -> str:
    """Return ``training 5.2x (4.9 to 5.5)``."""
    middle, low, high = ends(one.ratio)
    text = f"{one.group} {middle}x ({low} to {high}"
    far = [
        times(end[1]).split(" (")[0]
        for end in (one.best, one.worst)
        if end and not 1 / NOTABLE < end[1].value / one.ratio.value < NOTABLE
    ]
    if far and one.group == GROUPS[0]:
        text += f"; single cells: {' to '.join(far)}"
    return f"{text})"


def sweeps(several: Sequence[Any]) -> str:
    """Return from which size on a device is faster, for all sweeps of a dtype."""
    words: dict[str, list[str]] = {}
    for one in several:
        if one.crossover:
            text = f"{name(one.subject)} {one.param}={crossing(one.crossover)}"
            key = f"{'faster' if one.advice == 'above' else 'slower'} from this size on:"
        else:
            text = name(one.subject)
            way = "slower" if one.advice in ("never", "slower") else "faster"
            key = f"{way}{' or about the same' if one.ties else ''} at every size:"
        words.setdefault(key, []).append(text)
    parts = [f"{key} {listed(names, NAMED)}" for key, names in sorted(words.items())]
    return _joined(several[0], ", by size", parts)


def operations(several: Sequence[Any]) -> str:
    """Return which benchmarks without a sweep are slower and faster on a device in a dtype."""
    parts = []
    for word, end in (("slower", "worst"), ("faster", "best")):
        cells = [getattr(one, end) for one in several if getattr(one, word)]
        cells.sort(key=lambda cell: -cell[1].factor)
        names = [f"{name(s)} {times(ratio)}".replace(f" {word}", "") for s, ratio in cells]
        parts += [f"{word}: {listed(names, NAMED)}"] if names else []
    return _joined(several[0], ", by operation", parts)


def peaks(several: Sequence[Any]) -> str:
    """Return the best arithmetic of a device in each dtype."""
    parts = [
        f"{f'{one.advice} ' if one.advice else ''}{units.rate(one.amount, 'FLOP')} in "
        f"{one.subject.dtype} ({params(one.subject)})"
        for one in several
    ]
    return f"the best matmul on {several[0].subject.device}: {', '.join(parts)}"


def faults(several: Sequence[Any]) -> str:
    """Return which cells of a device have the same fault: all of a few, else their benchmarks."""
    first, subjects = several[0], [one.subject for one in several]
    text = f"{len(several):,} of {first.total:,} cells on {first.subject.device}: "
    text += "" if first.advice == "ok" else f"{first.advice}: "
    text += "" if len({one.reason for one in several}) == 1 else "for example "
    few = len(several) <= NAMED
    names = {name(subject) if few else subject.benchmark: None for subject in subjects}
    dtypes = {subject.dtype: None for subject in subjects}
    return f"{text}{cut(first.reason)} ({listed([*names], NAMED)}, in {listed([*dtypes], NAMED)})"


def _alike(one: Any) -> tuple[str, ...]:
    """Return the device, the status and the reason of a fault, without the figures in it."""
    return one.subject.device, one.advice, re.sub(r"[-+]?\d[\d.,e+-]*", "", one.reason)


def _of_dtype(one: Any) -> tuple[str, ...]:
    return one.subject.device, one.subject.dtype


#: Topic -> what the findings of a sentence have in common, and the sentence.
FOLDED: dict[str, tuple[Callable[[Any], object], Callable[[Sequence[Any]], str]]] = {
    "dtype group": (_of_dtype, together),
    "device group": (_of_dtype, together),
    "device": (_of_dtype, sweeps),
    "benchmark": (_of_dtype, operations),
    "arithmetic": (lambda one: one.subject.device, peaks),
    "fault": (_alike, faults),
}
