"""Result files from what a user types: files, folders, patterns."""

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import reader, schema

#: Columns in which a copy of a row equals it.
_SAME = ("machine", "run_id", "run_started", *schema.CELL, "status", "median_s")
#: Control characters, changes of writing direction, and what XML 1.0 cannot hold.
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


def printable(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the characters that control a terminal (ECMA-48) or change the writing direction."""
    for column in (name for name in schema.TEXTS if name in frame):
        # Most texts occur in every row: each is searched once.
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
    """Leave out copies of rows in other files: counted twice, they make noise look small."""
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

    A row that several files hold is returned once, or each time with `copies`.
    ``frame.attrs["notices"]`` lists what the user should know about the files. Raises BadFile.
    """
    found = paths(words)
    if not found:
        raise reader.BadFile("no file; give result files, folders or patterns")
    whole = printable(reader.read_all(found))
    if whole.empty:
        raise reader.BadFile(f"{found[0]}: no row in any file; run bench first")
    return whole if copies else once(whole)
