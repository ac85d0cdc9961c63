"""How a device compares with the CPU where no sweep answers: per benchmark, and over all cells."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.compare import estimates
from bench.compare.cells import Cell
from bench.stats.ratios import Ratio, geometric_mean
from bench.verdicts.finding import Finding, Subject, notable
from bench.verdicts.grouped import pairs_of_devices
from bench.verdicts.sizes import SIZES, devices

#: Share of the cells that move the same way, and the most that may move the other way, if the
#: direction is the answer.
NEARLY_ALL, OTHERS = 0.8, 0.05


@dataclass(frozen=True, kw_only=True)
class Plain(Finding):
    """Ratios of several cells: their geometric mean is `amount`, without a unit.

    `best` and `worst` are the cells with the smallest and the largest ratio; `faster` and `slower`
    count the notable ones of `n`. `advice` is `faster` or `slower` if nearly all cells are, or
    `mixed`.
    """

    best: tuple[Subject, Ratio]
    worst: tuple[Subject, Ratio]
    faster: int
    slower: int


def _pairs(found: list[Cell]) -> dict[tuple[str, str], list[tuple[Cell, Ratio]]]:
    """Return by device and dtype each cell whose time can be compared with that on the CPU."""
    made: dict[tuple[str, str], list[tuple[Cell, Ratio]]] = {}
    for cell, base in pairs_of_devices(found):
        settled = cell.settled and base.settled
        if settled and (ratio := estimates.ratio(cell.estimate, base.estimate)):
            made.setdefault((cell.device, cell.dtype), []).append((cell, ratio))
    return made


def _common(subject: Subject, pairs: list[tuple[Cell, Ratio]]) -> dict[str, Any] | None:
    """Return what the ratios have in common as fields of `Plain`, None if none is notable."""
    ordered = sorted(pairs, key=lambda pair: pair[1].value)
    values = [ratio.value for _, ratio in ordered]
    known = [ratio for _, ratio in ordered if notable(ratio)]
    if not known:
        return None
    faster = sum(ratio.value < 1 for ratio in known)
    slower = len(known) - faster
    advice = "mixed"
    for way, these, others in (("faster", faster, slower), ("slower", slower, faster)):
        if these >= NEARLY_ALL * len(values) and others <= OTHERS * len(values):
            advice = way
    (first, least), (last, most) = ordered[0], ordered[-1]
    return {
        "subject": subject,
        "advice": advice,
        "amount": geometric_mean(values),
        "rival": Subject("cpu", subject.dtype, subject.benchmark),
        "best": (Subject.of(first), least),
        "worst": (Subject.of(last), most),
        "faster": faster,
        "slower": slower,
        "n": len(values),
        "worth": max(abs(math.log(value)) for value in values),
    }


def overall(found: list[Cell]) -> Iterator[Finding]:
    """Find how each device compares with the CPU over all cells of a dtype, before the details."""
    for (device, dtype), pairs in _pairs(found).items():
        if len(pairs) > 1 and (common := _common(Subject(device, dtype), pairs)):
            # That nearly all cells moved the same way comes before everything else.
            first = {} if common["advice"] == "mixed" else {"worth": math.inf}
            yield Plain(topic="overall", **common | first)


def benchmarks(found: list[Cell]) -> Iterator[Finding]:
    """Find how a device compares with the CPU for each benchmark that no sweep answers."""
    swept = {
        (one.subject.device, one.subject.dtype, one.subject.benchmark, *one.subject.params.items())
        for one in devices(found)
    }
    for (device, dtype), pairs in _pairs(found).items():
        rest: dict[str, list[tuple[Cell, Ratio]]] = {}
        for cell, ratio in pairs:
            keys = [tuple((k, v) for k, v in cell.params.items() if k != param) for param in SIZES]
            if not any((device, dtype, cell.name, *key) in swept for key in keys):
                rest.setdefault(cell.name, []).append((cell, ratio))
        for benchmark, several in rest.items():
            if common := _common(Subject(device, dtype, benchmark), several):
                yield Plain(topic="benchmark", **common)
