"""Read result CSVs: the valid rows, and a line about each row that is not.

A vectorised pass reads many files at once; if anything fails there, each file is read field by
field, and the same rules (`checks`) name the first fault of each row.
"""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import checks, files, schema
from bench.records.fields import KINDS, UNIQUE, bad, by_line, faults_of, frame, parsed, width_of
from bench.records.fields import MAX_FIELD as MAX_FIELD
from bench.records.fields import BadFile as BadFile
from bench.records.lines import why
from bench.records.params import ordered

#: Bytes of a file beyond which it is not read: two million rows have less.
MAX_BYTES = 2**30
#: How many faults of a file are named.
NAMED = 3
#: What may precede the first letter of a number.
_SIGNS = ("", "+", "-", " ", " +", " -")
#: Text of the files that are parsed at once, in characters: it bounds the memory.
BATCH = 50_000_000
_HEADER = ",".join(schema.COLUMNS)


def _text(path: Path) -> str:
    try:
        raw = files.read_bytes(path, MAX_BYTES)
    except OSError as problem:
        raise BadFile(f"{path}: {why(problem)}; give the path of a result CSV") from problem
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise bad(path, line, None, "not UTF-8", "save the file as UTF-8") from problem


def _whole_lines(path: Path, text: str) -> tuple[str, str]:
    """Cut off half a last line, which a killed process leaves; return a notice of it too."""
    whole, newline, rest = text.rpartition("\n")
    if not rest or not newline:
        return text, ""
    line = whole.count("\n") + 2
    return whole + newline, f"{path}, line {line}: half a row, left out: the run was cut off there"


def _ordinary(text: str) -> bool:
    """Whether pandas reads a file as `csv` does: the usual header, no odd numbers, full rows.

    pandas takes the words 'nan' and 'inf' for numbers, and fills up a row that is cut short.
    """
    head, _, rest = text.partition("\n")
    lowered = rest.lower()
    found = [word for word in ("nan", "inf") if word in lowered]
    if any(f",{sign}{word}" in lowered for sign in _SIGNS for word in found):
        return False
    width = width_of(head.rstrip("\r").split(","))
    if width is None or not rest.endswith("\n"):
        return False
    lines = rest.removesuffix("\n").split("\n")
    quoted = [line for line in lines if '"' in line]
    plain = rest.count(",") - sum(line.count(",") for line in quoted)
    try:
        fields = [next(csv.reader([line], strict=True)) for line in quoted]
    except csv.Error:
        return False
    return plain == (width - 1) * (len(lines) - len(quoted)) and all(
        len(row) == width for row in fields
    )


def _fast(texts: Sequence[str]) -> pd.DataFrame | None:
    """Parse ordinary files by pandas, some twenty times as fast as field by field.

    The rows of each are numbered in a column ``file``. Returns None if something is not valid.
    """
    bodies = list(map(_body, texts))
    counts = [body.count("\n") for body in bodies]
    try:
        with warnings.catch_warnings():
            # A number beyond the integers is no more than a warning to numpy.
            warnings.simplefilter("error", RuntimeWarning)
            made = pd.read_csv(
                io.StringIO("".join([_HEADER, "\n", *bodies])),
                dtype=KINDS,
                keep_default_na=False,
                na_values={name: [""] for name in KINDS if name not in schema.TEXTS},
                skip_blank_lines=False,
            )
    except (ValueError, TypeError, OverflowError, RuntimeWarning):
        return None
    if len(made) != sum(counts):
        return None
    columns = {
        name: made[name].to_numpy(object)
        if name in schema.TEXTS
        else made[name].to_numpy(float, na_value=np.nan)
        for name in schema.COLUMNS
    }
    made["params"] = made.params.map({text: ordered(text) for text in made.params.unique()})
    made["file"] = np.repeat(np.arange(len(texts)), counts)
    # Most texts occur in every row: each is measured once.
    long = any(len(text) > MAX_FIELD for name in schema.TEXTS for text in made[name].unique())
    valid = not long and next(checks.faults(columns), None) is None
    return made if valid and not made.duplicated(["file", *UNIQUE]).any() else None


def _body(text: str) -> str:
    """Return the rows of an ordinary file, filled up with blanks to the newest schema."""
    head, _, rest = text.partition("\n")
    missing = len(schema.COLUMNS) - len(head.split(","))
    return rest.replace("\r\n", "\n").replace("\n", "," * missing + "\n") if missing else rest


def read(path: Path, strict: bool = False) -> pd.DataFrame:
    """Return the rows of one result CSV; see `read_all`. ``attrs["notice"]`` is a text."""
    made = read_all([path], strict).drop(columns="file")
    made.attrs = {"notice": "\n".join(made.attrs["notices"])}
    return made


def read_all(
    paths: Sequence[Path], strict: bool = False, found: Sequence[Path] = ()
) -> pd.DataFrame:
    """Return the valid rows of result CSVs: the columns of `schema.COLUMNS`, and ``file``.

    Rows that are not valid are left out, and so are files among `found` (for example in a folder)
    that are no result CSVs; ``frame.attrs["notices"]`` names them. Integers are nullable
    (``Int64``); blank floats are NaN, blank texts "". Raises BadFile, in one line with file, line,
    column and remedy: for any other file that is no result CSV, for the first invalid row if
    `strict`, and if no valid row is left.
    """
    csv.field_size_limit(MAX_FIELD)
    frames: list[pd.DataFrame] = []
    notices: list[str] = []
    faults: list[BadFile] = []
    batch: list[tuple[Path, str]] = []
    size = 0
    for number, path in enumerate(paths, 1):
        try:
            text, notice = _whole_lines(path, _text(path))
        except BadFile as problem:
            if path not in found:
                raise
            faults.append(problem)
            notices.append(f"{problem}; left out")
        else:
            notices += [notice] if notice else []
            batch.append((path, text))
            size += len(text)
        if batch and (number == len(paths) or size > BATCH):
            for made, broken in _batch(batch, found):
                frames.append(made)
                if strict and any(fault.line for fault in broken):
                    raise next(fault for fault in broken if fault.line)
                faults += broken
                notices += _left_out(broken)
            batch, size = [], 0
    made = pd.concat(frames, ignore_index=True) if frames else frame([]).assign(file="")
    if faults and made.empty:
        raise faults[0]
    made.attrs = {"notices": notices}
    return made


def _left_out(faults: Sequence[BadFile]) -> list[str]:
    """Return a line about each of the first faults of a file, and one about the others."""
    lines = [f"{fault}; left out" for fault in faults[:NAMED]]
    more = len(faults) - NAMED
    return [*lines, f"{faults[0].path}: {more} more lines left out"] if more > 0 else lines


def _batch(
    files: Sequence[tuple[Path, str]], found: Sequence[Path]
) -> list[tuple[pd.DataFrame, list[BadFile]]]:
    """Return the rows of some files: all at once if they are valid, else each half by itself."""
    if all(_ordinary(text) for _, text in files):
        made = _fast([text for _, text in files])
        if made is not None:
            names = np.array([str(path) for path, _ in files], object)
            return [(made.assign(file=pd.Series(names[made.file], dtype="str")), [])]
    if len(files) > 1:
        middle = len(files) // 2
        return [*_batch(files[:middle], found), *_batch(files[middle:], found)]
    ((path, text),) = files
    try:
        rows, faults = by_line(path, text)
    except BadFile as problem:
        if path not in found:
            raise
        problem.line = 0  # the whole file is left out
        rows, faults = frame([]), [problem]
    return [(rows.assign(file=str(path)), faults)]


def lines(text: str) -> list[list[str]]:
    """Return the fields of each row of a CSV's text, without its header and half a last row."""
    csv.field_size_limit(MAX_FIELD)
    whole, newline, _ = text.rpartition("\n")
    return list(csv.reader(io.StringIO(whole + newline, newline="")))[1:]


def row(fields: list[str], source: str = "a row from another machine") -> dict[str, Any]:
    """Return the fields of a row as `schema.Row` takes them; BadFile if they are not valid."""
    made = parsed(Path(source), 1, fields)
    for fault in faults_of(Path(source), {1: made}).values():
        raise fault
    return made


def cells(path: Path) -> set[schema.CellKey]:
    """Return the cells that a CSV names in the columns of `schema.CELL`, as a result CSV does.

    Raises BadFile.
    """
    csv.field_size_limit(MAX_FIELD)
    lines = csv.DictReader(io.StringIO(_text(path), newline=""), restval="")
    try:
        missing = [name for name in schema.CELL if name not in (lines.fieldnames or ())]
        if missing:
            columns = ", ".join(schema.CELL)
            remedy = f"a list of cells has the columns {columns}"
            raise bad(path, 1, missing[0], "there is no such column", remedy)
        return {schema.CellKey(*(line[name] for name in schema.CELL)) for line in lines}
    except csv.Error as problem:
        raise bad(path, lines.line_num, None, str(problem), "correct the row") from problem
