"""What `bench tune` prints: the table of a search, its answer, and the setting as code."""

import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any

from bench.report import fit, units
from bench.stats.ratios import Ratio


def table(found: Any, top: int, unit: str) -> str:
    """Return the `top` best trials of a search in `unit` (``s``: 1 / rate), and what became of all.

    If some were compared in turn, only these are shown, because the speed of the machine may have
    been different for the others.
    """

    def shown(rate: float) -> str:
        return units.significant(1 / rate) if unit == "s" else f"{rate:,.0f}"

    rows = []
    for trial in found.comparable[:top]:
        span = " to ".join(map(shown, trial.interval[:: -1 if unit == "s" else 1]))
        part = units.significant(trial.rate / found.ranked[0].rate)
        rows.append((shown(trial.rate), span, part, str(trial.setting)))
    headers = (unit, "interval", "of the best", "setting")
    parts = [fit.table(headers, rows, right="012"), ""] if rows else []
    trials, settings = found.trials.values(), len(found.problem.settings)
    pruned = sum(trial.reason.startswith("pruned") for trial in trials)
    turns = ", the best ones in turn" if any(trial.compared for trial in trials) else ""
    lines = [f"{len(trials)} of {settings} settings were tried{turns}; {pruned} pruned."]
    refused = [trial for trial in trials if trial.reason and "pruned:" not in trial.reason]
    for reason, count in Counter(trial.reason for trial in refused).items():
        first = next(trial.setting for trial in refused if trial.reason == reason)
        lines.append(f"{count} like {first}: {reason}")
    return "\n".join([*parts, fit.fill("\n".join(lines))])


def answer(
    best: Any, default: Any, ratio: Ratio | None, seen: str, code: Callable[[Any], str]
) -> list[str]:
    """Return the answer, also as code: the best setting if it is proven faster, else the default.

    `ratio` is how many times as fast it is, None if that is unknown; `seen` says what it rests on.
    """
    chosen, verdict = best, f"Fastest so far, but not proven: {best}."
    if best == default:
        verdict, seen = f"No setting is clearly faster than the plain default: {default}.", ""
    elif ratio:
        low, high = (units.significant(value) for value in (ratio.low, ratio.high))
        factor = f"{units.significant(ratio.value)} times as fast (95 % interval {low} to {high})"
        verdict = f"Use {best}: {factor} as the plain default ({default})."
        if ratio.low <= 1:
            chosen, verdict = (
                default,
                f"The plain default is as good ({default}): {best} is {factor}.",
            )
    wrapped = fit.wrap(f"{verdict} {seen}", further="")
    return ["", *wrapped, "", textwrap.indent(code(chosen), "    ")]
