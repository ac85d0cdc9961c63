"""What a dtype or a device gains or costs in all groups of benchmarks, in one sentence."""

from collections.abc import Sequence

from bench.report import units
from bench.report.sentences import change, name
from bench.verdicts.grouped import Several

_WITHOUT_FACTOR = {"same": "as fast", "unclear": "no clear difference"}


def sentence(several: Sequence[Several]) -> str:
    """Return the sentence on the groups of one dtype on one device."""
    first = several[0]
    rival = "float32" if first.topic == "dtype group" else "the CPU's best"
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
    bounded = " of those settled or bounded" if any(one.exceeded for one in several) else ""
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
    head = f"{first.subject.dtype} on {first.subject.device} against {rival}, from {count}"
    return f"{head}: {'; '.join(parts)}"


def _factor(one: Several) -> str:
    """Return ``training 5.2x (4.9 to 5.5)``."""
    assert one.ratio
    bounds = (one.ratio.value, one.ratio.low, one.ratio.high)
    if one.ratio.value < 1:
        bounds = (1 / one.ratio.value, 1 / one.ratio.high, 1 / one.ratio.low)
    middle, low, high = (units.significant(bound, 2) for bound in bounds)
    return f"{one.group} {middle}x ({low} to {high})"
