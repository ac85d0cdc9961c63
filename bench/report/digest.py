"""A run as short Markdown for an issue or a pull request; the table is folded."""

import pandas as pd

from bench.compare import outliers, sides
from bench.report import answers, comparison
from bench.report import outliers as outliers_report

#: The most sentences for each machine, and rows in the folded table.
SENTENCES, ROWS = 12, 200
LEFT_OUT = "\n\nThe rest: `bench verdict`."
#: Characters that GitHub takes.
MOST = 65_536


def markdown(frame: pd.DataFrame) -> str:
    """Return the digest of a frame from `files.read`, in at most `MOST` characters."""
    made = sides.narrowed(sides.compare(frame))
    found = comparison.lines(made, top=ROWS)
    sentences = SENTENCES
    while True:
        shown, rows = _sentences(frame, sentences), len(found)
        while len(text := _digest(shown, made, found[:rows])) > MOST and rows > 1:
            rows //= 2
        if len(text) <= MOST:
            return text
        if sentences == 1:
            room = len(shown) - (len(text) - MOST) - len(LEFT_OUT)
            return _digest(shown[:room].rpartition("\n")[0] + LEFT_OUT, made, found[:rows])
        sentences //= 2


def _sentences(frame: pd.DataFrame, count: int) -> str:
    """Return the advice for each machine, or for a fleet the machines that differ."""
    if frame.machine.nunique() > sides.WIDE:
        return outliers_report.markdown(outliers.find(frame))
    return answers.markdown(frame, top=count)


def _digest(shown: str, made: sides.Comparison, found: list[comparison.Line]) -> str:
    summary = f"<details><summary>{len(found):,} of {len(made.rows):,} cells</summary>"
    return "\n".join([shown, "", summary, "", comparison.markdown(made, found), "", "</details>"])
