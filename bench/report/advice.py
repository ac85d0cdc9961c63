"""What to use on each machine: the sentences of all findings, as a list."""

from collections.abc import Callable

import pandas as pd

from bench.compare import cells
from bench.records import schema
from bench.report import escape
from bench.report.sentences import sentence
from bench.verdicts import rules


def nothing(frame: pd.DataFrame) -> str:
    """Return what to say if no rule gives advice on the cells of a frame."""
    if compared := rules.comparisons(cells.of(frame)):
        return f"no notable difference in {compared:,} comparisons of devices and dtypes"
    return "nothing to compare: no cell was timed on two devices or in two dtypes"


def text(frame: pd.DataFrame, top: int | None = None) -> str:
    """Return the findings on each machine, torch and threads of a frame for a terminal."""
    return _lists(frame, top, "{}:", str)


def markdown(frame: pd.DataFrame, top: int | None = None) -> str:
    """Return them as Markdown, with the text from files escaped."""
    return _lists(frame, top, "**{}**\n", escape.markdown)


def _lists(frame: pd.DataFrame, top: int | None, title: str, as_text: Callable[[str], str]) -> str:
    parts = []
    for setting in cells.settings(frame):
        runs = setting.rows.run_id.nunique()
        advice, facts = (
            [f"- {as_text(sentence(finding))}" for finding in found[:top]]
            for found in rules.of(setting.rows)
        )
        words = (setting.machine, f"{runs} run{'s' if runs > 1 else ''}", setting.torch)
        head = ", ".join(filter(None, (*words, "" if setting.alone else setting.threads)))
        if not advice:
            advice = [nothing(setting.rows)]
        lines = [title.format(as_text(head)), *advice, *facts]
        ok = setting.rows[setting.rows.status == "ok"]
        # Runs of other cells are no replicates.
        replicates = ok.groupby(list(schema.CELL)).run_id.nunique()
        if runs == 1 or replicates.max() == 1:
            lines.append("Noise between runs is unknown with a single run: use bench run --runs 5.")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
