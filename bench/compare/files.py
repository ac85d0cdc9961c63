"""Find and read the result files that a user names: files, folders, patterns."""

import glob
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records import reader, schema
from bench.records.lines import CONTROLS

#: The folder in a folder of results whose files came with the suite, and what their machine gets.
EXAMPLES, MARKED = ("results", "examples"), " (example)"
#: Columns in which a copy of a row equals it.
_SAME = ("machine", "run_id", "run_started", *schema.CELL, "status", "median_s")
#: Columns in which a row equals one that was copied under another run.
_FIGURES = ("machine", *schema.CELL, "status", "rounds", "iterations", *schema.FLOATS)


def paths(words: Iterable[str], suffix: str = "csv") -> list[Path]:
    """Return the files that `words` name: files, folders (searched whole), or patterns.

    The examples in a folder count only if the folder is within theirs. Raises BadFile where a word
    names no file.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            here = sorted(path.rglob(f"*.{suffix}"))
            if not _is_example(path / "any"):
                there, here = here, [file for file in here if not _is_example(file)]
                if there and not here:
                    raise reader.BadFile(
                        f"{word}: only examples of another machine; time this one with bench run, "
                        f"or name {path / EXAMPLES[1]}"
                    )
        elif path.exists() or not glob.has_magic(word):
            here = [path]
        else:
            here = sorted(map(Path, glob.glob(word, recursive=True)))
        if not here:
            raise reader.BadFile(
                f"{word}: no {suffix.upper()} there; give result files, folders or patterns"
            )
        found += here
    return list({_real(path): path for path in found}.values())


def _real(path: Path) -> Path:
    """Return a path without links; `Path.resolve` raises for a loop of them before Python 3.13."""
    return Path(os.path.realpath(path))


def _is_example(path: Path) -> bool:
    """Whether a file came with the suite."""
    parents = [folder.name for folder in _real(path).parents]
    return EXAMPLES in itertools.pairwise(reversed(parents))


def printable(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the characters that control a terminal (ECMA-48) or change the writing direction."""
    for column in (name for name in (*schema.TEXTS, "file") if name in frame):
        # Most texts occur in every row: each is searched once.
        strange = {text for text in frame[column].unique() if CONTROLS.search(text)}
        if strange:
            clean = {text: CONTROLS.sub("?", text) for text in strange}
            frame[column] = frame[column].map(lambda text, clean=clean: clean.get(text, text))
    return frame


def texts(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Return a column as texts; blank values stay blank."""
    if column.name in schema.TEXTS or column.name == "file":
        return column
    return column.astype(str).where(column.notna(), "")


def values(column: "pd.Series[Any]") -> set[str]:
    """Return the different texts of a column."""
    return set(texts(column.drop_duplicates()))


def copied(frame: pd.DataFrame, across: bool = True) -> "pd.Series[bool]":
    """Return which rows are copies of an earlier one, `across` files or within their own.

    A copy has the run of another row, in another file; or the same figures under another run.
    """
    # Times of rounds, which chance never repeats.
    known = frame.stddev_s.gt(0) & frame.mean_s.notna()
    if not across:
        return frame.duplicated([*_FIGURES, "file"]) & known
    return frame.duplicated([*_FIGURES]) & known | frame.duplicated(list(_SAME))


def once(frame: pd.DataFrame, copies: bool = False) -> pd.DataFrame:
    """Leave out copies of rows: counted twice, they make noise look small.

    With `copies`, only those within one file count.
    """
    again = copied(frame, across=not copies)
    if not again.any():
        return frame
    named = frame.loc[again, "file"].unique()
    kept = frame[~again].reset_index(drop=True)
    kept.attrs["notices"] = [
        *frame.attrs.get("notices", []),
        *(f"{copy}: rows of runs that are there already, counted once" for copy in named),
    ]
    return kept


def alike(frame: pd.DataFrame) -> list[str]:
    """Return a line on each two names of cells that differ only in case, blanks or order."""
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for key in frame[list(schema.CELL)].drop_duplicates().itertuples(index=False, name=None):
        names = tuple("".join(text.split()).casefold() for text in key)
        found.setdefault(names, set()).add(key)
    pairs = sorted(sorted(keys) for keys in found.values() if len(keys) > 1)
    return [
        " and ".join(repr(schema.CellKey(*key).label) for key in keys[:2])
        + " are two cells: their names differ in case or blanks only"
        for keys in pairs[:3]
    ]


def read(words: Iterable[str], copies: bool = False, strict: bool = False) -> pd.DataFrame:
    """Return the rows of all files that `words` name, with a column ``file``.

    A row that several files hold is returned once, or each time with `copies`. The machine of an
    example is marked, so that nothing pools it with that of the user.
    ``frame.attrs["notices"]`` lists what the user should know about the files. Raises BadFile: for
    a file that `words` name and that is no result CSV, and with `strict` for a row that is not
    valid.
    """
    words = list(words)
    found = paths(words)
    if not found:
        raise reader.BadFile("no file; give result files, folders or patterns")
    named = {Path(word) for word in words}
    in_folders = [path for path in found if path not in named]
    whole = printable(reader.read_all(found, strict, in_folders))
    examples = {str(path) for path in found if _is_example(path)}
    shipped = whole.file.isin(examples)
    whole.loc[shipped, "machine"] += MARKED
    if whole.empty:
        raise reader.BadFile(f"{found[0]}: no row in any file; run bench first")
    whole.attrs["notices"] = [*whole.attrs["notices"], *alike(whole)]
    return once(whole, copies)
