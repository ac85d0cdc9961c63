"""The answers of a machine by question: for a terminal, as Markdown, as data, as a card."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from bench.compare import cells
from bench.compare.cells import Setting
from bench.report import bars, escape, fit, groups, units
from bench.report.data import dumps
from bench.report.sentences import sentence
from bench.verdicts import answers, machines
from bench.verdicts.answers import Answer, Basis
from bench.verdicts.finding import Finding

TITLES = {
    "machine": "Which machine?",
    "use": "What should I use here?",
    "device": "Which device?",
    "dtype": "Which dtype?",
    "loading": "How do I load data?",
    "implementations": "Which implementation?",
    "faults": "What is broken?",
    "quality": "How good are this machine and this measurement?",
}
_NOTHING = {
    "machine": "nothing to compare: name files of two to five machines with cells in common",
    "use": "no answer: no training step in float32 has a usable time",
    "device": "nothing to compare: no cell was timed on two devices",
    "dtype": "nothing to compare: no cell was timed in two dtypes",
    "loading": "no answer: no DataLoader has a usable time",
    "implementations": "no notable difference, or nothing to compare",
    "faults": "nothing seen",
    "quality": "nothing is known: no copy, matmul or small add was timed",
}
_NOT_ASKED = {
    "use": "the training step is not in these results: bench run --family training times it",
    "loading": "no DataLoader is in these results: bench run --family loading times them",
}
#: The most machines, or settings of one, that are compared with each other here.
MACHINES = 5
#: Findings of a topic that a block shows without `--all`.
FEW = 3
#: Blocks that a run shows at its end.
BLOCKS = 3
#: Below this share of settled cells, the first line reports the noise.
ENOUGH = 0.8
#: The version of the JSON.
FORMAT = 1


def rests_on(basis: Basis) -> str:
    """Return what all answers of a machine rest on."""
    known = f"from {basis.settled:,} of {basis.total:,} cells"
    text = known if basis.total else "no cell has a time"
    if basis.total and basis.settled < ENOUGH * basis.total:
        text += "; noise keeps the others from being settled: run bench doctor"
    if basis.not_timed:
        text += f"; {basis.not_timed:,} called once: answer checked, not timed"
    return text


def lines(answer: Answer, top: int | None = FEW) -> list[str]:
    """Return the sentences of an answer, `top` of each topic; None gives all.

    With `top`, the findings of some topics become one item per device and dtype.
    """
    several: dict[object, list[Finding]] = {}
    for number, one in enumerate(answer.findings):
        key: object = number
        if top is not None and one.topic in groups.FOLDED:
            key = one.topic, groups.FOLDED[one.topic][0](one)
        several.setdefault(key, []).append(one)
    made, counts = [], Counter[str]()
    for found in several.values():
        topic = found[0].topic
        counts[topic] += topic not in groups.FOLDED
        if top is None or topic in answers.WHOLE or counts[topic] <= top:
            alone = len(found) == 1
            made.append(sentence(found[0]) if alone else groups.FOLDED[topic][1](found))
    every = f"bench verdict --question {answer.question} --all"
    if left_out := len(several) - len(made):
        made.append(f"{units.count(left_out, 'more finding')}: {every}")
    elif any(len(found) > 1 for found in several.values()):
        made.append(f"in detail: {every}")
    return made or [(_NOTHING if answer.asked else _NOT_ASKED)[answer.question]]


def cards(found: list[cells.Cell]) -> list[dict[str, Any]]:
    """Return title, sentences and picture of each answer, for a page; those without any last."""
    return [
        {
            "question": answer.question,
            "title": TITLES[answer.question],
            "lines": lines(answer),
            "fault": answer.question == "faults" and bool(answer.findings),
            "picture": bars.of(answer.findings),
        }
        for answer in sorted(answers.of(found), key=lambda answer: not answer.findings)
    ]


def _heads(frame: pd.DataFrame) -> Iterator[tuple[Setting, str, list[cells.Cell]]]:
    for setting in cells.settings(frame):
        runs = units.count(setting.rows.run_id.nunique(), "run")
        words = (setting.machine, runs, setting.torch, setting.threads)
        head = ", ".join(filter(None, words))
        yield setting, head, cells.of(setting.rows)


def _across(frame: pd.DataFrame, question: str | None) -> list[Answer]:
    """Return how machines compare with the first, if there are several and few enough to name."""
    found = {one.name: cells.of(one.rows) for one in cells.settings(frame)}
    several = frame.machine.nunique() > 1 and len(found) <= MACHINES
    if question not in (None, "machine") or not (several or question):
        return []
    return [Answer("machine", tuple(machines.across(found)) if several else ())]


def _parts(
    frame: pd.DataFrame,
    question: str | None,
    block: Callable[[Answer], list[str]],
    head: Callable[[str, str], str],
) -> str:
    """Return the answers across machines, then those on each machine, torch and threads.

    `head` makes the line above the answers of a machine from its title and what they rest on.
    """
    parts = ["\n".join(block(one)) for one in _across(frame, question)]
    for _, title, found in _heads(frame) if question != "machine" else ():
        parts.append(head(title, rests_on(answers.basis(found))))
        # What is answered comes first.
        several = sorted(answers.of(found, question), key=lambda answer: not answer.findings)
        parts += ["\n".join(block(answer)) for answer in several]
    return "\n\n".join(parts)


def text(frame: pd.DataFrame, question: str | None = None, top: int | None = FEW) -> str:
    """Return the answers for a terminal, `top` findings of each topic or all."""
    return _parts(
        *(frame, question),
        lambda answer: _block(answer, top),
        lambda title, basis: "\n".join(fit.wrap(f"{title}; {basis}", further="")),
    )


def first(frame: pd.DataFrame) -> str:
    """Return the first blocks that have an answer; without a settled cell, why there are none."""
    parts = []
    for _, head, found in _heads(frame):
        known = answers.basis(found)
        if known.total:  # else it is known that nothing was timed
            parts += fit.wrap(f"{head}; {rests_on(known)}", further="")
        given = [one for one in answers.of(found) if one.findings] if known.settled else []
        for answer in given[:BLOCKS]:
            parts += ["", *_block(answer, FEW)]
    return "\n".join(parts)


def _block(answer: Answer, top: int | None) -> list[str]:
    """Return the title and the sentences of an answer in lines for a terminal."""
    return [
        TITLES[answer.question],
        *(part for line in lines(answer, top) for part in fit.wrap(line, first="- ")),
    ]


def markdown(frame: pd.DataFrame, question: str | None = None, top: int | None = FEW) -> str:
    """Return them as Markdown, with the text from files escaped."""

    def block(answer: Answer) -> list[str]:
        shown = [f"- {escape.markdown(line)}" for line in lines(answer, top)]
        return [f"**{TITLES[answer.question]}**", "", *shown]

    return _parts(
        *(frame, question, block),
        lambda title, basis: f"**{escape.markdown(title)}** ({basis})",
    )


def card(frame: pd.DataFrame) -> str:
    """Return at most 15 lines of Markdown on the first machine of a frame, to paste."""
    setting, head, found = next(_heads(frame))
    first = setting.rows.iloc[0]
    known = first.cpu, first.os, f"Python {first.python}" if first.python else ""
    about = ", ".join(filter(None, known))
    made = [f"**PyTorch on {escape.markdown(head)}**", ""]
    made += ["; ".join(filter(None, (escape.markdown(about), rests_on(answers.basis(found)))))]
    made.append("")
    for answer in answers.of(found):
        wanted = 2 if answer.question in ("device", "dtype", "loading") else 1
        if answer.findings and answer.question != "quality":
            made += [f"- {escape.markdown(line)}" for line in lines(answer)[:wanted]]
    return "\n".join(made[:15])


def data(finding: Finding) -> dict[str, Any]:
    """Return the fields of a finding that are not blank, and its sentence."""
    fields = {k: v for k, v in dataclasses.asdict(finding).items() if v not in (None, "", (), {})}
    return fields | {"text": sentence(finding)}


def as_json(frame: pd.DataFrame, question: str | None = None, top: int | None = None) -> str:
    """Return every finding on every machine as one JSON object, whatever `top` is."""
    made = []
    for setting, _, found in _heads(frame):
        known = answers.basis(found)
        made.append(
            {
                "machine": setting.machine,
                "torch": setting.torch,
                "threads": setting.threads,
                "runs": int(setting.rows.run_id.nunique()),
                "cells": dataclasses.asdict(known),
                "answers": {
                    one.question: [data(finding) for finding in one.findings]
                    for one in answers.of(found, question)
                },
            }
        )
    across = [data(finding) for one in _across(frame, question) for finding in one.findings]
    return dumps({"format": FORMAT, "machines": made, "across": across})


FORMATS: dict[str, Callable[[pd.DataFrame, str | None, int | None], str]] = {
    "terminal": text,
    "markdown": markdown,
    "json": as_json,
}
