"""Refresh the tables of the documents from the CSVs they name: python tests/refresh_tables.py.

A table is in a fenced block below ``<!-- table of FILE -->``, or ``<!-- table of FILE rows
A,B -->`` for the benchmarks A and B alone. Verdicts are below ``<!-- verdict of FILE top N -->``
(as ``bench verdict --top N`` prints them), ``<!-- verdict of FILE top N lines -->`` or
``<!-- verdict of FILE question NAME -->``.
"""

import os
import re
from pathlib import Path

from bench.compare import pooled
from bench.records import reader
from bench.report import answers, table

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("results.md", "accelerators.md")),
)
BLOCK = re.compile(r"(<!-- table of (\S+?)(?: rows (\S+))? -->\n```text\n)(?:(.*?)\n)??(```)", re.S)
VERDICTS = re.compile(
    r"(<!-- verdict of (\S+?)(?: top (\d+)( lines)?)?(?: question (\w+))? -->\n```text\n)"
    r"(?:(.*?)\n)??(```)",
    re.S,
)


def _table(found: re.Match[str]) -> str:
    frame = pooled.pool(reader.read(ROOT / found[2]))
    if found[3]:
        frame = frame[frame.benchmark.isin(found[3].split(","))]
    return found[1] + table.by_dtype(frame) + "\n" + found[5]


def _verdicts(found: re.Match[str]) -> str:
    top = int(found[3]) if found[3] else answers.FEW
    frame = reader.read(ROOT / found[2])
    text = answers.text(frame, found[5], top=answers.FEW if found[4] else top)
    if found[4]:
        text = "\n".join(text.splitlines()[:top])
    return found[1] + text + "\n" + found[7]


def refreshed(text: str) -> str:
    """Return a page with the current tables and verdicts."""
    return VERDICTS.sub(_verdicts, BLOCK.sub(_table, text))


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"  # the width of the documents, whatever that of the terminal
    for page in PAGES:
        page.write_text(refreshed(page.read_text()))
