"""Append rows to one CSV, each on disk as soon as its cell ends."""

import contextlib
import csv
import errno
import io
import os
import time
from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import Literal

from bench.records import reader
from bench.records.choices import UserError
from bench.records.lines import why
from bench.records.reader import BadFile
from bench.records.schema import COLUMNS, SCHEMA_VERSION, Row

try:
    import fcntl
except ImportError:  # Windows: a second writer of a resumed file is not noticed there
    fcntl = None  # type: ignore[assignment]

#: Seconds to wait for the lock of a file.
LOCK_S = 2.0
#: A spreadsheet takes text that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CannotWrite(UserError, OSError):
    """The results file cannot be made or appended to; the message is one line for the user."""


class BadRow(ValueError):
    """A row is not valid, and no reader would take it; the message is one line."""


def _line(fields: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    return text.getvalue().encode()


def _safe(value: object) -> str:
    """Return a value as the text of a field."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    # One row is one line of UTF-8, whatever a backend's message holds.
    text = value.encode("utf-8", "replace").decode()
    folded = " ".join(text.split()) if not text.isprintable() else text
    return no_formula(folded)


def no_formula(text: str) -> str:
    """Return `text` so that a spreadsheet shows it instead of running it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _lock(file: io.FileIO) -> None:
    """Take the file for this process, until it ends, where the platform has such locks.

    Waits a moment: the children of a process that was killed hold its lock until they end too.
    """
    end = time.monotonic() + LOCK_S
    while fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process writes to it") from None
            time.sleep(0.05)


def _valid(row: Row, strict: bool = True) -> bytes:
    """Return the line of a row; if no reader takes it, BadRow or, unless `strict`, nothing."""
    fields = [_safe(value) for value in astuple(row)]
    fault = ""
    try:
        reader.row(fields)
    except BadFile as problem:
        fault = problem.fault
    if (longest := max(map(len, fields))) > reader.MAX_FIELD:
        fault = fault or f"a text of {longest:,} characters is too long"
    if fault and strict:
        raise BadRow(fault)
    return b"" if fault else _line(fields)


class Writer:
    """An open results file. Every row is flushed to the operating system when appended.

    Another program may replace, truncate or delete the file meanwhile, as editors and sync tools
    do. The rows then continue in a new file beside it, with all that this one held; `notices` says
    so. A forked child writes nothing.
    """

    def __init__(
        self, path: Path, mode: Literal["xb", "r+b"] = "xb", size: int | None = None
    ) -> None:
        """Create the file `path` with its header, or open the one that is there (``r+b``).

        Raises CannotWrite where that is not possible, or where the file has another `size` now:
        the process that had it open until now may have timed the same cells.
        """
        self.path = path
        self.notices: list[str] = []
        self._pid = os.getpid()
        #: What the file holds: the lines before those of this process, and these by run and cell.
        self._before = _line(COLUMNS)
        self._lines: dict[tuple[str, ...], bytes] = {}
        self._size = 0
        self._file = self._open(mode)
        if mode == "xb":
            try:
                self._append(self._before)
            except CannotWrite:
                # An empty file is no result, and would be in the way of the next attempt.
                self.close()
                path.unlink()
                raise
        else:
            # A process that was killed may have left half a line; the cell is measured again.
            whole = path.read_bytes()
            if size not in (None, len(whole)):
                self.close()
                raise CannotWrite(f"{path} has other rows than a moment ago; continue it again")
            self._before = whole[: whole.rfind(b"\n") + 1]
            if self._before and not whole.startswith(_line(COLUMNS).strip()):
                self.close()
                raise CannotWrite(
                    f"cannot append to {path}: it has other columns than those of schema "
                    f"{SCHEMA_VERSION}; name a new file with --output"
                )
            self._truncate(len(self._before))

    @property
    def rows(self) -> int:
        """How many rows this process has appended."""
        return len(self._lines)

    def _truncate(self, size: int) -> None:
        self._file.truncate(size)
        self._size = size

    def _open(self, mode: Literal["xb", "r+b"]) -> io.FileIO:
        path, flags = self.path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
        if mode == "xb":
            # Two runs that start at once must not write into one file.
            flags |= os.O_CREAT | os.O_EXCL
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = io.FileIO(os.open(path, flags, 0o666), "r+")
            _lock(file)
        except OSError as problem:
            what = f"{why(problem)}; choose another folder with --results"
            if isinstance(problem, FileExistsError) and os.path.lexists(path):
                what = "it exists; continue it with --resume, or name another file"
            elif isinstance(problem, BlockingIOError):
                what = f"{why(problem)}; wait until it has ended"
            raise CannotWrite(f"cannot write {path}: {what}") from problem
        return file

    def append(self, row: Row) -> None:
        """Append one row; where that fails the file keeps its whole rows and nothing else.

        A second row of the cell that was last appended, as of a test that is run again, takes the
        place of the first. Raises BadRow for a row that no reader takes, by the checks of the
        reader itself, and CannotWrite.
        """
        if os.getpid() != self._pid:
            raise BadRow("a forked child of the benchmark cannot write a row")
        line, key = _valid(row), row.key
        self._follow()
        if next(reversed(self._lines), None) == key:
            self._truncate(self._size - len(self._lines.pop(key)))
        elif key in self._lines:
            raise BadRow("the run has a row of this cell already")
        self._append(line)
        self._lines[key] = line

    def replace(self, rows: Sequence[Row]) -> None:
        """Replace rows that this process has appended, all at once: a killed one loses none.

        A new row that is not valid leaves the old one. Raises CannotWrite; the file then is as
        before.
        """
        self._follow()
        new = {row.key: line for row in rows if (line := _valid(row, strict=False))}
        lines = {key: new.get(key) or line for key, line in self._lines.items()}
        held, size, path = self._file, self._size, self.path
        self.path = path.with_name(f".{path.name[:50]}.{os.getpid()}")
        try:
            # Locked before it has its name: no other process can take it in between.
            self._file, self._size = self._open("xb"), 0
            try:
                self._append(b"".join([self._before, *lines.values()]))
                self.path.replace(path)
            except OSError:
                self._file.close()
                self.path.unlink()
                raise
        except OSError as problem:
            self._file, self._size = held, size
            raise CannotWrite(
                f"cannot update {path}: {why(problem)}; it keeps the rows of the first visits"
            ) from problem
        finally:
            self.path = path
        held.close()
        self._lines = lines

    def _follow(self) -> None:
        """Continue in a new file if the one at `path` is not, or not only, what was written."""
        try:
            there, ours = os.stat(self.path), os.fstat(self._file.fileno())
            changed = not os.path.samestat(there, ours) or there.st_size != self._size
        except OSError:
            changed = True
        if not changed:
            return
        before = self.path
        with contextlib.suppress(OSError):
            # First: a benchmark may have closed it, and the new file then gets its number.
            self._file.close()
        for number in range(2, 1000):
            self.path = before.with_name(f"{before.stem}-{number}.csv")
            try:
                self._file = self._open("xb")
                break
            except CannotWrite as problem:
                if not isinstance(problem.__cause__, FileExistsError):
                    raise
        self._size = 0
        self._append(b"".join([self._before, *self._lines.values()]))
        self.notices.append(
            f"{before} was changed by another program; all rows of this run are in {self.path}"
        )

    def _append(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError as problem:
            # Half a line would make the whole file unreadable, and shrinking needs no space.
            with contextlib.suppress(OSError):
                self._truncate(self._size)
            raise CannotWrite(
                f"cannot append to {self.path}: {why(problem)}; "
                f"its {self.rows} finished rows are kept"
            ) from problem
        self._size += len(line)

    def close(self) -> None:
        """Close the file; if another program has changed it since the last row, write a new one."""
        if not self._file.closed and os.getpid() == self._pid and self._size:
            with contextlib.suppress(CannotWrite):
                self._follow()
        self._file.close()


def create(folder: Path, started: datetime) -> Writer:
    """Make ``<folder>/<UTC time>.csv``, with a number added where that name is taken."""
    name = started.strftime("%Y%m%dT%H%M%SZ")
    for attempt in range(1, 1000):
        path = folder / (f"{name}.csv" if attempt == 1 else f"{name}-{attempt}.csv")
        try:
            return Writer(path)
        except CannotWrite as problem:
            if not isinstance(problem.__cause__, FileExistsError) or not path.is_file():
                raise
    raise CannotWrite(f"cannot write {folder}: it holds 999 files of this second")


def reopen(path: Path, size: int | None = None) -> Writer:
    """Open a results file to continue it; an incomplete last line is removed."""
    return Writer(path, "r+b", size)
