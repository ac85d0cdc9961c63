"""Write the tables of the documents from the CSVs they name: python tests/refresh_tables.py.

A table stands in a fenced block below ``<!-- table of FILE -->``, or ``<!-- table of FILE rows
A,B -->`` for the benchmarks A and B alone; verdicts below ``<!-- verdict of FILE top N -->``.
"""

import re
from pathlib import Path

from bench.compare import pooled
from bench.records import reader
from bench.report import advice, table

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
BLOCK = re.compile(r"(<!-- table of (\S+?)(?: rows (\S+))? -->\n```text\n)(?:(.*?)\n)??(```)", re.S)


VERDICTS = re.compile(
    r"(<!-- verdict of (\S+?)(?: top (\d+))? -->\n```text\n)(?:(.*?)\n)??(```)", re.S
)


def _table(found: re.Match[str]) -> str:
    frame = pooled.pool(reader.read(ROOT / found[2]))
    if found[3]:
        frame = frame[frame.benchmark.isin(found[3].split(","))]
    return found[1] + table.by_dtype(frame) + "\n" + found[5]


def _verdicts(found: re.Match[str]) -> str:
    frame = reader.read(ROOT / found[2])
    return found[1] + advice.text(frame, int(found[3]) if found[3] else None) + "\n" + found[5]


def refreshed(text: str) -> str:
    """Return a page with every table refreshed."""
    return VERDICTS.sub(_verdicts, BLOCK.sub(_table, text))


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(refreshed(page.read_text()))
