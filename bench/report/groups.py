"""Findings of one kind on one dtype and device in one sentence, for a block without ``--all``."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.report import units
from bench.report.phrases import change, ends, listed, name, params, size
from bench.report.sentences import against
from bench.verdicts.finding import WORTH
from bench.verdicts.groups import ORDER

_WITHOUT_FACTOR = {"same": "as fast", "unclear": "no clear difference"}
#: Operations and sweeps that a sentence names; it counts the rest.
NAMED = 4


def together(several: Sequence[Any]) -> str:
    """Return the sentence on the groups of one dtype on one device."""
    first = several[0]
    known = [one for one in several if one.ratio]
    parts = []
    for advice in ("faster", "slower"):
        if here := [_factor(one) for one in known if one.advice == advice]:
            parts.append(f"{advice} in {', '.join(here)}")
    for advice, word in _WITHOUT_FACTOR.items():
        if named := [one.group for one in known if one.advice == advice]:
            parts.append(f"{word} in {', '.join(named)}")
    if named := [one.group for one in several if not one.ratio]:
        parts.append(f"not settled in {', '.join(named)}")
    bounded = " of those known" if any(one.exceeded for one in several) else ""
    worst = [one.worst for one in several if one.worst]
    best = [one.best for one in several if one.best]
    if worst:
        end = max(worst, key=lambda one: one[1].value)
        parts.append(f"at worst{bounded} {name(end[0])} {change(end[1])}")
    if best:
        end = min(best, key=lambda one: one[1].value)
        parts.append(f"at best{bounded} {name(end[0])} {change(end[1])}")
    errors = [one.error for one in several if one.error]
    if errors and first.topic == "dtype group":
        parts.append(f"relative error up to {max(errors):.0e} (median of a group)")
    count = f"{sum(one.n for one in several):,} of {sum(one.total or 0 for one in several):,} cells"
    head = f"{first.subject.dtype} on {first.subject.device} against {against(first)}, from {count}"
    return f"{head}: {'; '.join(parts)}"


def _factor(one: Any) -> str:
    """Return ``training 5.2x (4.9 to 5.5)``."""
    middle, low, high = ends(one.ratio)
    text = f"{one.group} {middle}x ({low} to {high}"
    far = [
        change(end[1]).split(" (")[0]
        for end in (one.best, one.worst)
        if end and not 1 / WORTH < end[1].value / one.ratio.value < WORTH
    ]
    if far and one.group == ORDER[0]:
        text += f"; single cells {' to '.join(far)}"
    return f"{text})"


def _few(names: Sequence[str]) -> str:
    return listed(names, NAMED)


def sweeps(several: Sequence[Any]) -> str:
    """Return from which size on a device is faster, in a sentence on all sweeps of a dtype."""
    words: dict[str, list[str]] = {}
    for one in several:
        if where := one.crossover:
            text = f"{name(one.subject)} {one.param}={size(where.size)}"
            text += f" (measured: {size(where.low)} and {size(where.high)})"
            key = f"{'faster' if one.advice == 'above' else 'slower'} from a size on:"
        else:
            text = name(one.subject)
            way = "slower" if one.advice in ("never", "slower") else "faster"
            key = f"{way} at every size{' with a difference' if one.ties else ''}:"
        words.setdefault(key, []).append(text)
    first = several[0]
    parts = [f"{key} {_few(names)}" for key, names in sorted(words.items())]
    head = f"{first.subject.dtype} on {first.subject.device} against {first.rival.device}"
    return f"{head} by size: {'; '.join(parts)}"


def operations(several: Sequence[Any]) -> str:
    """Return what a device loses and wins of the benchmarks without a sweep of a dtype."""
    lost, won = (
        [f"{name(end[0])} {change(end[1])}" for end in sorted(ends, key=lambda end: -end[1].factor)]
        for ends in (
            [one.worst for one in several if one.slower],
            [one.best for one in several if one.faster],
        )
    )
    parts = [f"{word}: {_few(names)}" for word, names in (("loses", lost), ("wins", won)) if names]
    first = several[0]
    head = f"{first.subject.dtype} on {first.subject.device} against {first.rival.device}"
    return f"{head} by operation: {'; '.join(parts)}"


def peaks(several: Sequence[Any]) -> str:
    """Return the best arithmetic of a device in each dtype."""
    parts = [
        f"{f'{one.advice} ' if one.advice else ''}{units.rate(one.amount, 'FLOP')} in "
        f"{one.subject.dtype} ({params(one.subject)})"
        for one in several
    ]
    return f"{several[0].subject.device} computes in its best matmul: {', '.join(parts)}"


#: Topic -> the fields of the subject that a sentence is about, and the sentence.
FOLDED: dict[str, tuple[tuple[str, ...], Callable[[Sequence[Any]], str]]] = {
    "dtype group": (("device", "dtype"), together),
    "device group": (("device", "dtype"), together),
    "device": (("device", "dtype"), sweeps),
    "benchmark": (("device", "dtype"), operations),
    "arithmetic": (("device",), peaks),
}
