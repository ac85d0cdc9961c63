"""A run in short Markdown, for an issue or a pull request: verdicts open, the table folded."""

import pandas as pd

from bench.compare import sides
from bench.report import advice, comparison, escape

#: Sentences shown for each machine, and rows in the folded table: GitHub cuts at 65,536 characters.
SENTENCES, ROWS = 12, 200


def markdown(frame: pd.DataFrame) -> str:
    """Return the digest of a frame as `files.read` gives it."""
    made = sides.compare(frame)
    found = comparison.lines(made, top=ROWS)
    return "\n".join(
        [
            advice.markdown(frame, escape.markdown, SENTENCES),
            "",
            f"<details><summary>{len(found):,} of {len(made.rows):,} cells</summary>",
            "",
            comparison.markdown(made, found),
            "",
            "</details>",
        ]
    )
