"""Read result CSVs, and refuse with file, line, column and remedy what is not one."""

import csv
import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import schema

#: A field longer than this is no result of this suite; csv's own limit guards the memory.
MAX_FIELD = 10_000
#: What may stand between a comma and a number's first letter.
_SIGNS = ("", "+", "-", " ", " +", " -")


class BadFile(ValueError):
    """A file is not a result CSV; the message is one line: where, what, and how to mend it."""


def _bad(path: Path, line: int, column: str | None, what: str, remedy: str) -> BadFile:
    where = f"{path}, line {line}" + (f", column {column}" if column else "")
    return BadFile(f"{where}: {what}; {remedy}")


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise BadFile(f"{path}: {reason}; give the path of a result CSV") from problem
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise _bad(path, line, None, "not UTF-8", "save the file as UTF-8") from problem


def _check_header(path: Path, header: list[str], first: list[str]) -> None:
    if tuple(header) == schema.COLUMNS:
        return
    version = first[0] if header[:1] == ["schema_version"] and first else ""
    if version.isdecimal() and int(version[:20]) > schema.SCHEMA_VERSION:
        raise _newer(path, 2, version)
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


def _newer(path: Path, line: int, version: str) -> BadFile:
    return _bad(
        path,
        line,
        "schema_version",
        f"schema {version[:20]} is newer than {schema.SCHEMA_VERSION}, the newest known here",
        "upgrade with pip install --upgrade torch-device-bench",
    )


def _number(path: Path, line: int, column: str, text: str) -> float | int | None:
    if text == "":
        return None
    remedy = "restore the row or delete it"
    try:
        value = int(text) if column in schema.INTEGERS else float(text)
    except ValueError:
        raise _bad(path, line, column, f"{text[:40]!r} is not a number", remedy) from None
    if isinstance(value, int) and abs(value) >= 2**63:
        raise _bad(path, line, column, f"{text[:40]!r} is too large", remedy)
    if math.isnan(value) or (math.isinf(value) and column not in schema.UNBOUNDED):
        raise _bad(path, line, column, f"{text[:40]!r} is not a finite number", remedy)
    if value < 0 and column not in schema.SIGNED:
        raise _bad(path, line, column, f"{text[:40]!r} is negative", remedy)
    return value


def _row(path: Path, line: int, fields: list[str]) -> dict[str, object]:
    remedy = "restore the row or delete it"
    if len(fields) != len(schema.COLUMNS):
        what = f"{len(fields)} fields where the header has {len(schema.COLUMNS)}"
        raise _bad(path, line, None, what, remedy)
    row: dict[str, object] = {}
    for column, text in zip(schema.COLUMNS, fields, strict=True):
        if text == "" and column in schema.REQUIRED:
            raise _bad(path, line, column, "blank", remedy)
        row[column] = text if column in schema.TEXTS else _number(path, line, column, text)
    version = row["schema_version"]
    if isinstance(version, int) and version > schema.SCHEMA_VERSION:
        raise _newer(path, line, str(version))
    if version != schema.SCHEMA_VERSION:
        raise _bad(path, line, "schema_version", f"no schema {version} exists", remedy)
    if row["status"] not in schema.STATUSES:
        known = f"it is one of {', '.join(schema.STATUSES)}"
        raise _bad(path, line, "status", f"unknown status {str(row['status'])[:40]!r}", known)
    if row["status"] == "ok" and row["median_s"] is None:
        raise _bad(path, line, "median_s", "blank in a row with status 'ok'", remedy)
    return row


def _whole_lines(path: Path, text: str) -> tuple[str, str]:
    """Cut off half a last line, which a killed process leaves; return a notice of it too."""
    whole, newline, rest = text.rpartition("\n")
    if not rest or not newline:
        return text, ""
    line = whole.count("\n") + 2
    return whole + newline, f"{path}, line {line}: half a row, left out: the run was cut off there"


def _full(rows: str) -> bool:
    """Whether every row has a field for each column: pandas fills up a row that is cut short."""
    lines = rows.removesuffix("\n").split("\n")
    quoted = [line for line in lines if '"' in line]
    plain = rows.count(",") - sum(line.count(",") for line in quoted)
    try:
        # A field of several lines ends in an error here, and is left to the closer look too.
        fields = [next(csv.reader([line], strict=True)) for line in quoted]
    except csv.Error:
        return False
    width = len(schema.COLUMNS)
    return plain == (width - 1) * (len(lines) - len(quoted)) and all(
        len(row) == width for row in fields
    )


def _fast(text: str) -> pd.DataFrame | None:
    """Read a valid file by pandas' own parser, or return None: something in it needs a closer look.

    Some twenty times as fast as looking at each field, which finds out what is wrong and where.
    """
    head, _, rest = text.partition("\n")
    # 'nan' and 'inf' are words that the parser takes for numbers.
    lowered = rest.lower()
    there = [word for word in ("nan", "inf") if word in lowered]
    words = any(f",{sign}{word}" in lowered for sign in _SIGNS for word in there)
    if head.rstrip("\r") != ",".join(schema.COLUMNS) or not rest or words or not _full(rest):
        return None
    numbers = (*schema.FLOATS, *schema.INTEGERS)
    try:
        with warnings.catch_warnings():
            # A number beyond the integers is no more than a warning to numpy.
            warnings.simplefilter("error", RuntimeWarning)
            made = pd.read_csv(
                io.StringIO(text),
                dtype=dict.fromkeys(schema.TEXTS, "str")
                | dict.fromkeys(schema.FLOATS, "float64")
                | dict.fromkeys(schema.INTEGERS, "Int64"),
                keep_default_na=False,
                na_values={column: [""] for column in numbers},
            )
    except (ValueError, TypeError, OverflowError, RuntimeWarning):
        return None
    texts = made[list(schema.TEXTS)]
    unsigned = made[[column for column in numbers if column not in schema.SIGNED]]
    valid = (
        made.schema_version.eq(schema.SCHEMA_VERSION).fillna(False).all()
        and made.status.isin(schema.STATUSES).all()
        and not any(made[column].eq("").any() for column in schema.REQUIRED)
        and not made.median_s[made.status == "ok"].isna().any()
        and not any((unsigned[column] < 0).any() for column in unsigned)
        and not np.isinf(made[list(schema.FLOATS)].to_numpy()).any()
        # Most texts stand in every row: each is measured once.
        and all(len(text) <= MAX_FIELD for column in texts for text in texts[column].unique())
        and not made.duplicated(["run_id", *schema.CELL]).any()
    )
    return made if valid else None


def read(path: Path) -> pd.DataFrame:
    """Return the rows of one result CSV, one column each of `schema.COLUMNS`.

    A last line without its end is left out, and ``frame.attrs["notice"]`` says so.
    Integers are nullable (``Int64``), floats have NaN and texts "" where the file is blank.
    Raises BadFile, one line with file, line, column and remedy, where the file is not valid.
    """
    csv.field_size_limit(MAX_FIELD)
    text, notice = _whole_lines(path, _text(path))
    if (made := _fast(text)) is not None:
        made.attrs["notice"] = notice
        return made
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, object]] = []
    seen: dict[tuple[object, ...], int] = {}
    try:
        header = next(lines, None)
        if header is None:
            raise _bad(path, 1, None, "the file is empty", "give a result CSV")
        for fields in lines:
            if not rows:
                _check_header(path, header, fields)
            line = lines.line_num
            row = _row(path, line, fields)
            key = tuple(row[name] for name in ("run_id", *schema.CELL))
            if key in seen:
                cell = f"{row['benchmark']} {row['device']} {row['dtype']} {row['params']}"
                what = f"cell {cell.strip()[:120]!r} stands already in line {seen[key]}"
                what += " of the same run"
                raise _bad(path, line, "benchmark", what, "delete one of the two")
            seen[key] = line
            rows.append(row)
        if not rows:
            _check_header(path, header, [])
    except csv.Error as problem:
        what = str(problem)
        raise _bad(path, lines.line_num, None, what, "restore the row or delete it") from problem
    made = frame(rows)
    made.attrs["notice"] = notice
    return made


def frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return rows, as mappings from column to value, with the dtypes that `read` promises."""
    made = pd.DataFrame(rows, columns=list(schema.COLUMNS), dtype=object)
    kinds = dict.fromkeys(schema.INTEGERS, "Int64") | dict.fromkeys(schema.FLOATS, "float64")
    return made.astype(kinds | dict.fromkeys(schema.TEXTS, "str"))


def lines(text: str) -> list[list[str]]:
    """Return the fields of each row of a CSV's text, without its header and half a last row."""
    csv.field_size_limit(MAX_FIELD)
    whole, newline, _ = text.rpartition("\n")
    return list(csv.reader(io.StringIO(whole + newline, newline="")))[1:]


def row(fields: list[str], source: str = "a row from another machine") -> dict[str, Any]:
    """Return the fields of a row as `schema.Row` takes them; BadFile where they are none."""
    return _row(Path(source), 1, fields)


def cells(path: Path) -> set[tuple[str, ...]]:
    """Return the cells that a CSV names, in columns as `schema.CELL` has them; a result CSV does.

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
        return {tuple(line[name] for name in schema.CELL) for line in lines}
    except csv.Error as problem:
        raise _bad(path, lines.line_num, None, str(problem), "mend the row") from problem
