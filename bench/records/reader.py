"""Read result CSVs: the valid rows, and a line about each row that is not.

A vectorised pass reads many files at once; if anything fails there, each file is read field by
field, and the same rules (`checks`) name the first fault of each row.
"""

import csv
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import checks, files, schema
from bench.records.checks import RESTORE, UPGRADE
from bench.records.choices import UserError

#: A field longer than this is no result of this suite; csv's own limit guards the memory.
MAX_FIELD = 10_000
#: Bytes of a file beyond which it is not read: two million rows have less.
MAX_BYTES = 2**30
#: How many faults of a file are named.
NAMED = 3
#: What may precede the first letter of a number.
_SIGNS = ("", "+", "-", " ", " +", " -")
#: Text of the files that are parsed at once, in characters: it bounds the memory.
BATCH = 50_000_000
_HEADER = ",".join(schema.COLUMNS)
_NUMBERS = tuple(c for c in schema.COLUMNS if c not in schema.TEXTS)


class BadFile(UserError, ValueError):
    """A file is not a result CSV; the message is one line: where, what, and how to correct it.

    `fault` is what alone, such as ``items: '1.5' is not a number``; `line` is that of the row, 0
    if the whole file is meant.
    """

    fault = ""
    line = 0
    path = Path()


def _bad(path: Path, line: int, column: str | None, what: str, remedy: str) -> BadFile:
    where = f"{path}, line {line}" + (f", column {column}" if column else "")
    made = BadFile(f"{where}: {what}; {remedy}")
    made.fault = f"{column}: {what}" if column else what
    made.line, made.path = line, path
    return made


def _text(path: Path) -> str:
    try:
        raw = files.read_bytes(path, MAX_BYTES)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise BadFile(f"{path}: {reason}; give the path of a result CSV") from problem
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise _bad(path, line, None, "not UTF-8", "save the file as UTF-8") from problem


def _width(header: Sequence[str]) -> int | None:
    """Return the number of columns if the header is that of a known schema."""
    known = len(header) in schema.WIDTHS.values()
    return len(header) if known and tuple(header) == schema.COLUMNS[: len(header)] else None


def _check_header(path: Path, header: list[str], first: list[str]) -> None:
    if _width(header):
        return
    version = first[0] if header[:1] == ["schema_version"] and first else ""
    if version.isdecimal() and int(version[:20]) > schema.SCHEMA_VERSION:
        raise _bad(path, 2, "schema_version", checks.newer(version), UPGRADE)
    missing = [name for name in schema.COLUMNS if name not in header]
    extra = [name[:60] for name in header if name not in schema.COLUMNS]
    column: str | None = None
    if missing:
        what, column = f"column {missing[0]!r} is missing", missing[0]
    elif extra:
        what = f"unknown column {extra[0]!r}"
    else:
        what = "columns are repeated or out of order"
    remedy = f"a result CSV has the {len(schema.COLUMNS)} columns of schema {schema.SCHEMA_VERSION}"
    raise _bad(path, 1, column, what, remedy)


def _number(column: str, text: str) -> float | int | None:
    """Return the number in a field, None for a blank; ValueError, with a message, for none."""
    if text == "":
        return None
    try:
        value = int(text) if column in schema.INTEGERS else float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{text[:40]!r} is too large")
    if math.isnan(value):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return value


def _parsed(path: Path, line: int, fields: list[str]) -> dict[str, Any]:
    """Return the values of a row; BadFile if it has other columns or text for a number."""
    known = {str(version): width for version, width in schema.WIDTHS.items()}
    if fields and len(fields) == known.get(fields[0]):
        fields = [*fields, *[""] * (len(schema.COLUMNS) - len(fields))]
    if len(fields) != len(schema.COLUMNS):
        what = f"{len(fields)} fields where the header has {len(schema.COLUMNS)}"
        raise _bad(path, line, None, what, RESTORE)
    row: dict[str, Any] = {}
    for column, text in zip(schema.COLUMNS, fields, strict=True):
        try:
            row[column] = text if column in schema.TEXTS else _number(column, text)
        except ValueError as problem:
            raise _bad(path, line, column, str(problem), RESTORE) from None
    return row


def _faults(
    path: Path, lines: Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> dict[int, BadFile]:
    """Return the first fault of each parsed row that has one, by the place of the row."""
    columns = {
        name: np.array([row[name] for row in rows], object if name in schema.TEXTS else float)
        for name in schema.COLUMNS
    }
    found: dict[int, BadFile] = {}
    for places, check, name in checks.faults(columns) if rows else ():
        for place in map(int, places):
            if place not in found:
                value = rows[place][name]
                text = "" if value is None else str(value)
                found[place] = _bad(path, lines[place], name, check.what(text), check.remedy)
    return found


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
    width = _width(head.rstrip("\r").split(","))
    if width is None or not rest.endswith("\n"):
        return False
    lines = rest.removesuffix("\n").split("\n")
    quoted = [line for line in lines if '"' in line]
    plain = rest.count(",") - sum(line.count(",") for line in quoted)
    try:
        # A field of several lines is an error here, and is left to the closer look too.
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
                dtype=_KINDS,
                keep_default_na=False,
                na_values={column: [""] for column in _NUMBERS},
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
    made["file"] = np.repeat(np.arange(len(texts)), counts)
    # Most texts occur in every row: each is measured once.
    long = any(len(text) > MAX_FIELD for name in schema.TEXTS for text in made[name].unique())
    valid = not long and next(checks.faults(columns), None) is None
    return made if valid and not made.duplicated(["file", *_UNIQUE]).any() else None


def _body(text: str) -> str:
    """Return the rows of an ordinary file, filled up with blanks to the newest schema."""
    head, _, rest = text.partition("\n")
    missing = len(schema.COLUMNS) - len(head.split(","))
    return rest.replace("\r\n", "\n").replace("\n", "," * missing + "\n") if missing else rest


_UNIQUE = ("run_id", *schema.CELL)
_KINDS: dict[str, Any] = (
    dict.fromkeys(schema.TEXTS, "str")
    | dict.fromkeys(schema.FLOATS, "float64")
    | dict.fromkeys(schema.INTEGERS, "Int64")
)


def _slow(path: Path, text: str) -> tuple[pd.DataFrame, list[BadFile]]:
    """Read one file field by field; return its valid rows and the faults of the others.

    Of two rows of one cell the last one counts. Raises BadFile for a file that has another header.
    """
    fields_of = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    faults: dict[int, BadFile] = {}
    try:
        header = next(fields_of, None)
    except csv.Error as problem:
        raise _bad(path, 1, None, str(problem), RESTORE) from problem
    if header is None:
        raise _bad(path, 1, None, "the file is empty", "give a result CSV")
    checked = False
    while True:
        try:
            fields = next(fields_of, None)
            if not checked:
                _check_header(path, header, fields or [])
                checked = True
            if fields is None:
                break
            rows.append(_parsed(path, fields_of.line_num, fields))
            numbers.append(fields_of.line_num)
        except csv.Error as problem:
            faults[fields_of.line_num] = _bad(path, fields_of.line_num, None, str(problem), RESTORE)
        except BadFile as problem:
            if not checked:
                raise
            faults[fields_of.line_num] = problem
    broken = _faults(path, numbers, rows)
    faults |= {numbers[place]: fault for place, fault in broken.items()}
    rows = [row for place, row in enumerate(rows) if place not in broken]
    numbers = [number for place, number in enumerate(numbers) if place not in broken]
    made = frame(rows)
    again = made.duplicated(list(_UNIQUE), keep="last").to_numpy()
    if again.any():
        last = {tuple(key): numbers[i] for i, key in enumerate(made[list(_UNIQUE)].to_numpy())}
        keys = schema.cell_keys(made[again])
        for place, key in zip(np.flatnonzero(again), keys, strict=True):
            line = last[tuple(made.loc[place, list(_UNIQUE)])]
            what = f"cell {key.label[:120]!r} is also in line {line} of the same run"
            faults[numbers[place]] = _bad(
                path, numbers[place], "benchmark", what, "delete one of the two"
            )
        made = made[~again].reset_index(drop=True)
    return made, [faults[line] for line in sorted(faults)]


def read(path: Path, strict: bool = False) -> pd.DataFrame:
    """Return the rows of one result CSV; see `read_all`. ``attrs["notice"]`` is a text."""
    made = read_all([path], strict).drop(columns="file")
    made.attrs = {"notice": "\n".join(made.attrs["notices"])}
    return made


def read_all(
    paths: Sequence[Path], strict: bool = False, found: Sequence[Path] = ()
) -> pd.DataFrame:
    """Return the valid rows of result CSVs: the columns of `schema.COLUMNS`, and ``file``.

    Rows that are not valid are left out, and so are files among `found` (in a folder, say) that
    are no result CSVs; ``frame.attrs["notices"]`` names them. Integers are nullable (``Int64``);
    blank floats are NaN, blank texts "".

    Raises BadFile, one line with file, line, column and remedy, for another file that is no result
    CSV, for the first invalid row if `strict`, and if no valid row is left.
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
        if number == len(paths) or size > BATCH:
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
    if files and all(_ordinary(text) for _, text in files):
        made = _fast([text for _, text in files])
        if made is not None:
            names = np.array([str(path) for path, _ in files], object)
            return [(made.assign(file=pd.Series(names[made.file], dtype="str")), [])]
    if len(files) > 1:
        middle = len(files) // 2
        return [*_batch(files[:middle], found), *_batch(files[middle:], found)]
    made_: list[tuple[pd.DataFrame, list[BadFile]]] = []
    for path, text in files:
        try:
            rows, faults = _slow(path, text)
        except BadFile as problem:
            if path not in found:
                raise
            problem.line = 0  # the whole file is left out
            rows, faults = frame([]), [problem]
        made_.append((rows.assign(file=str(path)), faults))
    return made_


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows, as mappings from column to value, with the dtypes that `read_all` promises."""
    made = pd.DataFrame(rows, columns=list(schema.COLUMNS), dtype=object)
    return made.astype(_KINDS)


def lines(text: str) -> list[list[str]]:
    """Return the fields of each row of a CSV's text, without its header and half a last row."""
    csv.field_size_limit(MAX_FIELD)
    whole, newline, _ = text.rpartition("\n")
    return list(csv.reader(io.StringIO(whole + newline, newline="")))[1:]


def row(fields: list[str], source: str = "a row from another machine") -> dict[str, Any]:
    """Return the fields of a row as `schema.Row` takes them; BadFile if they are not valid."""
    made = _parsed(Path(source), 1, fields)
    for fault in _faults(Path(source), [1], [made]).values():
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
            raise _bad(path, 1, missing[0], "there is no such column", remedy)
        return {schema.CellKey(*(line[name] for name in schema.CELL)) for line in lines}
    except csv.Error as problem:
        raise _bad(path, lines.line_num, None, str(problem), "correct the row") from problem
