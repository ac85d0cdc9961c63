"""Result files from what a user types: files, folders, patterns."""

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import many, reader, schema
from bench.records.many import Many

#: What two rows share where one is a copy of the other.
_SAME = ("machine", "run_id", "run_started", *schema.CELL, "status", "median_s")
#: Controls, changes of writing direction, and what XML 1.0 has no place for.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def paths(words: Iterable[str], suffix: str = "csv") -> list[Path]:
    """Return the files that `words` name: files, folders (searched whole), or patterns.

    Raises BadFile where a word names none.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            here = sorted(path.rglob(f"*.{suffix}"))
        elif path.exists() or not glob.has_magic(word):
            here = [path]
        else:
            here = sorted(map(Path, glob.glob(word, recursive=True)))
        if not here:
            raise reader.BadFile(
                f"{word}: no {suffix.upper()} there; give result files, folders or patterns"
            )
        found += here
    return list({path.resolve(): path for path in found}.values())


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace what would steer a terminal (ECMA-48 controls, changes of writing direction)."""
    for column in (name for name in schema.TEXTS if name in frame):
        # Most texts stand in every row: each is looked at once.
        strange = {text for text in frame[column].unique() if _CONTROLS.search(text)}
        if strange:
            clean = {text: _CONTROLS.sub("?", text) for text in strange}
            frame[column] = frame[column].map(lambda text, clean=clean: clean.get(text, text))
    return frame


def texts(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Return a column as texts, blank where it is blank."""
    if column.name in schema.TEXTS or column.name == "file":
        return column
    return column.astype(str).fillna("")


def once(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out rows of a run that another file has too: counted twice, noise looks small."""
    again = frame.duplicated(list(_SAME))
    if not again.any():
        return frame
    copies = frame.loc[again, "file"].unique()
    kept = frame[~again].reset_index(drop=True)
    kept.attrs["notices"] = [
        *frame.attrs.get("notices", []),
        *(f"{copy}: rows of runs that another file has too, counted once" for copy in copies),
    ]
    return kept


def read(words: Iterable[str], copies: bool = False) -> pd.DataFrame:
    """Return the rows of all files that `words` name, with a column ``file``.

    A row that stands in several files comes once, or as often as it is there with `copies`.
    ``frame.attrs["notices"]`` lists what the user should know of them. Raises BadFile.
    """
    frames, notices = [], []
    found = paths(words)
    for path in found:
        frame = reader.read(path)
        if frame.attrs["notice"]:
            notices.append(frame.attrs["notice"])
        frame.attrs = {}
        frames.append(harmless(frame).assign(file=str(path)))
    if not frames:
        raise reader.BadFile("no file; give result files, folders or patterns")
    whole = pd.concat(frames, ignore_index=True)
    if whole.empty:
        raise reader.BadFile(f"{found[0]}: no row in any file; run bench first")
    whole.attrs["notices"] = notices
    return whole if copies else once(whole)


def read_many(words: Sequence[str]) -> tuple[Many, list[str]]:
    """Return the rows of all files that `words` name as numbers, and what to know of them.

    Raises BadFile, NeedsPolars.
    """
    found = paths(words)
    if len(found) < many.FILES:
        frame = read(words)
        return Many.of(frame), frame.attrs["notices"]
    rows, notices = many.read(found)
    if not len(rows.cell):
        raise reader.BadFile(f"{found[0]}: no row in any file; run bench first")
    for table in (rows.cells, rows.runs):
        harmless(table)
    return rows, notices
