"""Verdicts as text."""

from collections.abc import Callable, Sequence

import pandas as pd

from bench.compare import cells
from bench.records import schema
from bench.verdicts import rules

NOTHING = "no difference seen that is above the noise"


def text(frame: pd.DataFrame, top: int | None = None) -> str:
    """Return the verdicts on each machine, torch and threads of a frame for a terminal."""
    return "\n\n".join(_lines(frame, top, "- {}", "{}:", str))


def markdown(frame: pd.DataFrame, escape: Callable[[str], str], top: int | None = None) -> str:
    """Return them as Markdown, with what comes from files escaped."""
    return "\n\n".join(_lines(frame, top, "- {}", "**{}**\n", escape))


def _lines(
    frame: pd.DataFrame, top: int | None, item: str, title: str, escape: Callable[[str], str]
) -> Sequence[str]:
    parts = []
    for setting in cells.settings(frame):
        runs = setting.rows.run_id.nunique()
        found = rules.of(setting.rows)
        told = [verdict for verdict in found if verdict.topic not in rules.FACTS]
        facts = [verdict for verdict in found if verdict.topic in rules.FACTS]
        words = (setting.machine, f"{runs} run{'s' if runs > 1 else ''}", setting.torch)
        head = ", ".join(filter(None, (*words, "" if setting.alone else setting.threads)))
        said = [item.format(escape(verdict.text)) for verdict in told[:top]] or [NOTHING]
        said += [item.format(escape(verdict.text)) for verdict in facts[:top]]
        ok = setting.rows[setting.rows.status == "ok"]
        # Runs of other cells are no replicates.
        replicates = ok.groupby(list(schema.CELL)).run_id.nunique()
        if runs == 1 or replicates.max() == 1:
            said.append(
                "A single run only advises: bench run --runs 5 tells noise from difference."
            )
        parts.append("\n".join([title.format(escape(head)), *said]))
    return parts
