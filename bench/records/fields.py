"""Read a result CSV field by field: its valid rows, and what is wrong with each other row."""

import contextlib
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import checks, schema
from bench.records.checks import RESTORE, UPGRADE
from bench.records.choices import UserError
from bench.records.params import ordered

#: What Excel separates fields by in some countries, and what it may write above the header.
_SEPARATED = re.compile(r"schema_version[;\t]|sep=")
#: A field longer than this is no result of this suite; csv's own limit guards the memory.
MAX_FIELD = 10_000
_GIVE = "give a result CSV"
UNIQUE = ("machine", *schema.KEY)
KINDS: dict[str, Any] = (
    dict.fromkeys(schema.TEXTS, "str")
    | dict.fromkeys(schema.FLOATS, "float64")
    | dict.fromkeys(schema.INTEGERS, "Int64")
)


class BadFile(UserError, ValueError):
    """A file is not a result CSV; the message is one line: where, what, and how to correct it.

    `fault` is what alone, such as ``items: '1.5' is not a number``; `line` is that of the row, 0
    if the whole file is meant.
    """

    fault = ""
    line = 0
    path = Path()


def bad(path: Path, line: int, column: str | None, what: str, remedy: str) -> BadFile:
    """Return the fault of a line, or of its column: `what` is wrong, and its `remedy`."""
    where = f"{path}, line {line}" + (f", column {column}" if column else "")
    made = BadFile(f"{where}: {what}; {remedy}")
    made.fault = f"{column}: {what}" if column else what
    made.line, made.path = line, path
    return made


def width_of(header: Sequence[str]) -> int | None:
    """Return the number of columns if the header is that of a known schema."""
    known = len(header) in schema.WIDTHS.values()
    return len(header) if known and tuple(header) == schema.COLUMNS[: len(header)] else None


def _check_header(path: Path, header: list[str], first: str) -> None:
    if width_of(header):
        return
    version = first if header[:1] == ["schema_version"] else ""
    if version.isdecimal() and int(version[:20]) > schema.SCHEMA_VERSION:
        raise bad(path, 2, "schema_version", checks.NEWER.format(version[:20]), UPGRADE)
    if _SEPARATED.match(",".join(header)):
        remedy = "save it with commas between fields and points in numbers, without a line 'sep='"
        raise bad(path, 1, None, "the fields are not separated by commas alone", remedy)
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
    raise bad(path, 1, column, what, remedy)


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


def _records(path: Path, text: str) -> list[tuple[int, list[str] | BadFile]]:
    """Return the last line and the fields of each record of a CSV, or what is wrong with it.

    A quote that is not closed would swallow the rows after it: then a line is a record.
    """
    whole = csv.reader(io.StringIO(text, newline=""), strict=True)
    with contextlib.suppress(csv.Error):
        return [(whole.line_num, fields) for fields in whole]
    made: list[tuple[int, list[str] | BadFile]] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            made.append((number, next(csv.reader([line.removesuffix("\r")], strict=True), [])))
        except csv.Error as problem:
            made.append((number, bad(path, number, None, str(problem), RESTORE)))
    return made


def parsed(path: Path, line: int, fields: list[str]) -> dict[str, Any]:
    """Return the values of a row; BadFile if it has other columns or text for a number."""
    known = {str(version): width for version, width in schema.WIDTHS.items()}
    if fields and len(fields) == known.get(fields[0]):
        fields = [*fields, *[""] * (len(schema.COLUMNS) - len(fields))]
    if len(fields) != len(schema.COLUMNS):
        what = f"{len(fields)} fields where the header has {len(schema.COLUMNS)}"
        raise bad(path, line, None, what, RESTORE)
    row: dict[str, Any] = {}
    for column, text in zip(schema.COLUMNS, fields, strict=True):
        try:
            row[column] = text if column in schema.TEXTS else _number(column, text)
        except ValueError as problem:
            raise bad(path, line, column, str(problem), RESTORE) from None
    row["params"] = ordered(row["params"])
    return row


def faults_of(path: Path, rows: Mapping[int, Mapping[str, Any]]) -> dict[int, BadFile]:
    """Return the first fault of each parsed row that has one; both by the line of the row."""
    lines, values = list(rows), list(rows.values())
    columns = {
        name: np.array([row[name] for row in values], object if name in schema.TEXTS else float)
        for name in schema.COLUMNS
    }
    found: dict[int, BadFile] = {}
    for places, check, name in checks.faults(columns) if rows else ():
        for line in (lines[place] for place in places):
            value = rows[line][name]
            what = check.message.format("" if value is None else str(value)[:40])
            found.setdefault(line, bad(path, line, name, what, check.remedy))
    return found


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows, as mappings from column to value, with the dtypes that `read_all` promises."""
    made = pd.DataFrame(rows, columns=list(schema.COLUMNS), dtype=object)
    return made.astype(KINDS)


def by_line(path: Path, text: str) -> tuple[pd.DataFrame, list[BadFile]]:
    """Read one file field by field; return its valid rows and the faults of the others.

    Of two rows of one cell the last one counts. Blank lines and headers between rows, of files that
    were put together, are no rows. Raises BadFile for a file that has another header.
    """
    header, *records = _records(path, text) or [(1, bad(path, 1, None, "the file is empty", _GIVE))]
    if isinstance(header[1], BadFile):
        raise header[1]
    first = records[0][1] if records else []
    _check_header(path, header[1], "" if isinstance(first, BadFile) else "".join(first[:1]))
    rows: dict[int, dict[str, Any]] = {}
    faults: dict[int, BadFile] = {}
    for line, fields in records:
        try:
            if isinstance(fields, BadFile):
                raise fields
            if any(fields) and not width_of(fields):
                rows[line] = parsed(path, line, fields)
        except BadFile as problem:
            faults[line] = problem
    faults |= faults_of(path, rows)
    keys = {
        line: tuple(row[name] for name in UNIQUE)
        for line, row in rows.items()
        if line not in faults
    }
    last = {key: line for line, key in keys.items()}
    for line, key in keys.items():
        if last[key] != line:
            label = schema.CellKey(*key[2:]).label[:120]
            what = f"cell {label!r} is also in line {last[key]} of the same run"
            faults[line] = bad(path, line, "benchmark", what, "delete one of the two")
    made = frame([row for line, row in rows.items() if line not in faults])
    return made, [faults[line] for line in sorted(faults)]
