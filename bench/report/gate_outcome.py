"""The outcome of the gate, for a terminal, a pull request, GitHub, JUnit or a program."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable
from xml.etree import ElementTree

from tabulate import tabulate

from bench.gate.outcome import VERDICTS, Judged, Outcome
from bench.gate.power import Power, Stored
from bench.gate.reason import Reason
from bench.report import data, escape, fit, reasons, units
from bench.stats.ratios import relative

#: Verdicts that need someone to look.
NOTABLE = ("regressed", "errored", "missing", "improved")
#: So many missing cells, and cells without a notable verdict, are shown in a terminal.
FEW = 20
#: Verdicts that pass unless they fail the whole.
_QUIET = ("same", "improved", "new", "negligible")
_HEADLINES = {
    "regressed": "a cell has regressed",
    "errored": "a cell has errored",
    "missing": "a cell of the baseline is missing",
    "improved": "a cell has improved",
}
#: The words of each reason and note of the gate, by its code.
WORDS = {
    "undecided": (
        "a change up to {change:.0%} cannot be excluded; about {runs} runs per side would decide"
    ),
    "sessions": (
        "a change up to {change:.0%} cannot be excluded: the cells of these sides differ by "
        "{spread:.1%} beyond what their runs explain; compare both sides with bench ab"
    ),
    "status": "{seen}",
    "status of both": "{seen} (as in the baseline)",
    "status of baseline": "{seen} (in the baseline)",
    "gone": "the baseline has it",
    "gone and refused": "not there now, and {seen} (in the baseline)",
    "few times": "fewer than two runs have a usable time",
    "cleared": "the screen found no change",
    "differs": "{column}: {baseline} in the baseline, {candidate} now",
    "unknown hardware": (
        "{column} is unknown on the side of the {sides}: if both sides are the same machine, use "
        "--same-machine"
    ),
    "moved together": (
        "{cells} of {total} cells on {device} in {dtype} became {change:.0%} {way} together "
        "({benchmarks}): two machines of one CPU model can differ like that; compare both sides on "
        "one machine with bench ab"
    ),
    "moved": (
        "everything on {device} in {dtype} changed by {change:+.0%}, and nothing shows whether it "
        "was the machine: compare both sides on one machine with bench ab"
    ),
    "everything": (
        "everything on {device} in {dtype} is {change:.0%} slower, and the machine is not"
    ),
    "two states": (
        "may be chance: its processes run in two states, {low_s} and {high_s}; about {runs} runs "
        "per side would decide"
    ),
    "states of others": (
        "may be chance: {cells} cells run in two states, a fast and a slow one; about {runs} runs "
        "per side would decide"
    ),
    "floor": (
        "a change up to {change:.0%} cannot be excluded; that is less than the floor of {floor_s}"
    ),
    "single calls": (
        "{cells} cells were timed by a single call, in profile smoke a cold one: use profile "
        "default to measure them"
    ),
    "few runs": (
        "{baseline} and {candidate} runs: advice only; the gate judges {fewest} runs per side "
        "(bench run --runs 5)"
    ),
    "screened": "{cells} cells screened in {baseline} and {candidate} runs",
    "confirmed": "{cells} confirmed in {baseline} and {candidate} fresh runs",
}


def words(reason: Reason | None) -> str:
    """Return a reason or a note of the gate as text, blank for none."""
    if reason is None:
        return ""
    figures = {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in reason.figures.items()}
    return reasons.fill(WORDS[reason.code], figures)


def power(seen: Power) -> str:
    """Return how often the gate raises a false alarm and finds a slowdown."""
    found = ", ".join(f"+{f - 1:.0%} in {n / seen.suites:.0%}" for f, n in seen.found.items())
    alarms = f"false alarms in {seen.alarms / seen.suites:.1%} of {seen.suites} suites"
    return f"{seen.per_side} runs per side: {alarms}; found {found} of them"


def source(stored: Stored, fewest: int) -> str:
    """Return what the power of the gate was estimated from: stored runs, or kernels if too few."""
    if stored.runs >= fewest:
        return f"from {stored.runs} stored runs of {len(stored.times)} cells"
    return (
        f"from a few kernels: {stored.runs} stored runs with the newest settings are too few for "
        f"the cells of this machine (bench run --runs {fewest})"
    )


def headline(outcome: Outcome) -> str:
    """Return the verdict on the whole in a line."""
    counts = [f"{n:,} {verdict}" for verdict in VERDICTS if (n := outcome.count(verdict))]
    if "incomparable" in outcome.failing:
        what = "the two sides cannot be compared"
    elif outcome.unfit and outcome.code == 3:
        what = "too few cells were judged" if outcome.judged[0] else "nothing could be judged"
    elif outcome.failed:
        what = ", ".join(_HEADLINES[verdict] for verdict in outcome.failed)
    else:
        what = "fine" if outcome.failing else "advice only"
        if doubts := sum(map(_may_be_slower, outcome.cells)):
            what += f", but {units.count(doubts, 'cell')} may be slower"
    return f"{what}: {', '.join(counts) or 'no cell'}"


def _may_be_slower(cell: Judged) -> bool:
    """Return whether runs in two states are the only reason why a cell has not regressed."""
    states = cell.reason and cell.reason.code in ("two states", "states of others")
    return bool(states) and cell.verdict == "inconclusive" and (cell.change or 0) > 0


def _percent(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:+.1%}"


def _change(cell: Judged) -> str:
    if cell.change is None:
        return ""
    interval = f" ({_percent(cell.low)} to {_percent(cell.high)})" if cell.low is not None else ""
    return _percent(cell.change) + interval


def _rows(cells: Iterable[Judged], as_text: Callable[[str], str] = str) -> list[list[str]]:
    return [[c.verdict, *map(as_text, (_change(c), c.key.label, words(c.reason)))] for c in cells]


def _table(cells: Iterable[Judged]) -> str:
    headers = ("verdict", "change (95 % interval)", "cell", "reason")
    rows = _rows(cells, escape.markdown)
    return tabulate(rows, headers, "github", disable_numparse=True)


def _remarks(outcome: Outcome) -> list[str]:
    lines = []
    for (device, dtype), (shift, _, seen) in outcome.shifts.items():
        what = "the reference kernels" if seen else f"{device} in {dtype}"
        lines.append(f"{what} changed by {relative(shift):+.1%}, which is subtracted")
    return [*map(words, outcome.notes), *_share(outcome), *dict.fromkeys(lines)]


def _share(outcome: Outcome) -> list[str]:
    """Return a line if too few cells were judged."""
    if not outcome.unfit:
        return []
    judged, cells = outcome.judged
    return [
        f"{judged:,} of {cells:,} cells were judged, but {outcome.min_judged:.0%} are needed "
        "(--min-judged): give more runs, or a quieter machine (bench doctor)"
    ]


def text(outcome: Outcome) -> str:
    """Return the outcome for a terminal: what needs a look, then a few of the other cells."""
    shown = [c for c in outcome.cells if c.verdict in NOTABLE and c.verdict != "missing"]
    missing = [cell for cell in outcome.cells if cell.verdict == "missing"]
    unlisted = (*NOTABLE, "same", "new", "incomparable")  # why sides are incomparable is a note
    others = [cell for cell in outcome.cells if cell.verdict not in unlisted]
    listed = [*shown, *missing[:FEW], *others[:FEW]]
    parts = fit.wrap(headline(outcome))
    if listed:
        rows = [
            (verdict, change, ": ".join(filter(None, cell)))
            for verdict, change, *cell in _rows(listed)
        ]
        parts += ["", fit.table(("verdict", "change (95 % interval)", "cell"), rows)]
    if more := len(shown) + len(missing) + len(others) - len(listed):
        parts.append(f"... and {more:,} more: --format markdown shows all")
    parts += ["", fit.fill("\n".join(_remarks(outcome)))]
    return "\n".join(parts).rstrip()


def markdown(outcome: Outcome) -> str:
    """Return the outcome for a summary or a comment: what moved is open, the rest folded."""
    mark = "✅" if outcome.code == 0 else "❌"
    moved = [cell for cell in outcome.cells if cell.verdict in NOTABLE]
    rest = [cell for cell in outcome.cells if cell.verdict not in NOTABLE]
    parts = [f"### {mark} {escape.markdown(headline(outcome))}", ""]
    if moved:
        parts += [_table(moved), ""]
    parts += [f"- {escape.markdown(line)}" for line in _remarks(outcome)]
    if rest:
        table = _table(rest)
        parts += ["", f"<details><summary>{len(rest):,} other cells</summary>", "", table, ""]
        parts.append("</details>")
    return "\n".join(parts)


def _annotated(text_: str) -> str:
    """Escape as GitHub's workflow commands want it."""
    return text_.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _failure_without_cell(outcome: Outcome) -> list[str]:
    """Return why the whole fails if no cell of it does."""
    if "incomparable" in outcome.failing and not outcome.count("incomparable"):
        return [words(note) for note in outcome.notes]
    return _share(outcome) if outcome.code == 3 else []


def annotations(outcome: Outcome) -> str:
    """Return GitHub's workflow commands: an error for each failure, a warning for the rest."""
    lines = []
    for cell in outcome.cells:
        if cell.verdict in NOTABLE or cell.verdict == "incomparable":
            kind = "error" if cell.verdict in outcome.failing else "warning"
            what = f"{cell.key.label} {cell.verdict} {_change(cell)} {words(cell.reason)}"
            lines.append(f"::{kind} title=bench check::{_annotated(' '.join(what.split()))}")
    whole = _failure_without_cell(outcome)
    notes = {words(note): "warning" for note in outcome.notes} | dict.fromkeys(whole, "error")
    lines += [f"::{kind} title=bench check::{_annotated(note)}" for note, kind in notes.items()]
    return "\n".join(lines)


def _kind(cell: Judged, outcome: Outcome) -> str:
    """Return the kind of a cell in JUnit, blank if it passes."""
    if cell.verdict not in outcome.failing:
        return "" if cell.verdict in _QUIET else "skipped"
    return "failure" if cell.verdict in ("regressed", "improved") else "error"


def junit(outcome: Outcome) -> str:
    """Return JUnit XML: a test case for each cell, skipped if it was not judged."""
    cases = []
    for cell in outcome.cells:
        message = " ".join(filter(None, (cell.verdict, _change(cell), words(cell.reason))))
        cases.append((cell.key.family, cell.key.label, _kind(cell, outcome), message))
    if whole := _failure_without_cell(outcome):
        cases.append(("bench", "comparison", "error", "; ".join(whole)))
    kinds = Counter(kind for _, _, kind, _ in cases)
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="bench check", tests=str(len(cases)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(kinds[kind]))
    suite.set("time", "0")
    for family, name, kind, message in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=family, name=name, time="0")
        if kind:
            ElementTree.SubElement(case, kind, message=message)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode")


def as_json(outcome: Outcome) -> str:
    """Return the outcome as one JSON object."""
    cells = []
    for cell in outcome.cells:
        found = dataclasses.asdict(cell) | {"reason": words(cell.reason)}
        del found["key"]
        numbers = {k: v for k, v in found.items() if not isinstance(v, float) or math.isfinite(v)}
        cells.append(cell.key._asdict() | numbers)
    made = {
        "code": outcome.code,
        "failing": sorted(outcome.failing),
        "headline": headline(outcome),
        "judged": dict(zip(("cells", "of"), outcome.judged, strict=True)),
        "runs": {"baseline": outcome.runs[0], "candidate": outcome.runs[1]},
        "notes": _remarks(outcome),
        "cells": cells,
    }
    return data.dumps(made)


FORMATS: dict[str, Callable[[Outcome], str]] = {
    "terminal": text,
    "markdown": markdown,
    "github": annotations,
    "junit": junit,
    "json": as_json,
}
