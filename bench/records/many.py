"""Many result files at once, as numbers: which cell, which run, its status and its times.

From a few hundred files on, reading them one by one takes longer than all the rest. Polars reads
them together, where it is installed; what it cannot read is read, and refused, file by file.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.records import reader, schema

#: Files from which on they are read together.
FILES = 200
#: Files that are held in memory with all their columns.
BATCH = 500
#: What is known of a run, and the hardware of each of its devices.
RUN = ("machine", "run_id", "cpu", "threads", "device_name", "torch", "torchvision", "python", "os")
_NEEDED = ("schema_version", *RUN, *schema.CELL, "status", "min_s", "median_s")
_TEXTS = tuple(name for name in (*RUN, *schema.CELL, "status") if name != "threads")
_HEADER = ",".join(schema.COLUMNS).encode()


class NeedsPolars(Exception):
    """There are more files than can be read one by one; the message is one line."""


@dataclass(frozen=True)
class Many:
    """Rows of any number of files.

    `cells` and `runs` (one for each device of a run) are tables; `cell` and `run` say for each row
    which one of them it is of, `status` which of `schema.STATUSES` it has.
    """

    cells: pd.DataFrame
    runs: pd.DataFrame
    cell: np.ndarray
    run: np.ndarray
    status: np.ndarray
    min_s: np.ndarray
    median_s: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Many":
        """Return the same of a frame as `reader.read` gives it."""
        cells, cell = _numbered(frame, schema.CELL)
        runs, run = _numbered(frame, RUN)
        codes = {name: code for code, name in enumerate(schema.STATUSES)}
        status = frame.status.map(codes).to_numpy(int)
        min_s, median_s = (frame[name].to_numpy(float) for name in ("min_s", "median_s"))
        return cls(cells, runs, cell, run, status, min_s, median_s)

    def seconds(self) -> np.ndarray:
        """Return the time by which runs are compared, NaN where a row is not `ok`.

        The smallest on the CPU, the median elsewhere; see `compare.replicates.times`.
        """
        ok = (self.status == schema.STATUSES.index("ok")) & (self.median_s > 0)
        on_cpu = (self.cells.device == "cpu").to_numpy()[self.cell] & (self.min_s > 0)
        return np.where(ok, np.where(on_cpu, self.min_s, self.median_s), np.nan)

    def table(self, values: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Return `values` of these runs (numbers, in order) as cells x runs, NaN where none is."""
        place = np.full(len(self.runs), -1)
        place[runs] = np.arange(len(runs))
        here = place[self.run] >= 0
        made = np.full((len(self.cells), len(runs)), np.nan)
        made[self.cell[here], place[self.run[here]]] = values[here]
        return made

    def where(self, rows: np.ndarray) -> "Many":
        """Return the rows that a mask names, with the cells and runs that they are of."""
        cells, cell = np.unique(self.cell[rows], return_inverse=True)
        runs, run = np.unique(self.run[rows], return_inverse=True)
        return Many(
            self.cells.iloc[cells].reset_index(drop=True),
            self.runs.iloc[runs].reset_index(drop=True),
            *(cell, run, self.status[rows], self.min_s[rows], self.median_s[rows]),
        )


def _numbered(frame: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the distinct values of some columns, sorted, and which of them each row has."""
    columns = list(names)
    table = frame[columns].drop_duplicates().sort_values(columns).reset_index(drop=True)
    return table, frame.groupby(columns, sort=True, dropna=False).ngroup().to_numpy()


def _whole(path: Path) -> bool:
    """Whether a file has the usual header, and a last line with its end."""
    try:
        with path.open("rb") as file:
            if file.readline().rstrip(b"\r\n") != _HEADER:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:
        return False


def read(paths: Sequence[Path]) -> tuple[Many, list[str]]:
    """Return the rows of all files, and what the user should know of them.

    Raises BadFile where one is not valid, NeedsPolars where Polars is not installed.
    """
    try:
        import polars
    except ImportError:
        raise NeedsPolars(
            f"{len(paths):,} files are read by Polars: pip install 'torch-device-bench[fleet]'"
        ) from None
    whole = [path for path in paths if _whole(path)]
    frames, notices = [], []
    try:
        if whole:
            frames.append(_together(polars, whole))
    except (ValueError, polars.exceptions.PolarsError):
        whole = []
    usual = set(whole)
    for path in paths:
        if path not in usual:
            frame = reader.read(path)
            if frame.attrs["notice"]:
                notices.append(frame.attrs["notice"])
            frame.attrs = {}
            blank = frame[list(_NEEDED)].astype(object)
            columns = blank.where(blank.notna(), None).to_dict("list")
            frames.append(polars.DataFrame(columns, schema=_types(polars)))
    if not frames:
        raise reader.BadFile("no file; give result files, folders or patterns")
    return _numbers(polars, polars.concat(frames)), notices


def _types(polars: Any) -> dict[str, Any]:
    numbers = {"schema_version": polars.Int64, "threads": polars.Int64}
    times = {"min_s": polars.Float64, "median_s": polars.Float64}
    texts = dict.fromkeys(_TEXTS, polars.Categorical)
    return {name: (numbers | times | texts)[name] for name in _NEEDED}


def _together(polars: Any, paths: Sequence[Path]) -> Any:
    """Read files that look usual; ValueError or PolarsError where something in them is not."""
    kinds = dict.fromkeys(schema.FLOATS, polars.Float64)
    kinds |= dict.fromkeys(schema.INTEGERS, polars.Int64)
    kinds = {name: kinds.get(name, polars.String) for name in schema.COLUMNS} | _types(polars)
    kinds = {name: kinds[name] for name in schema.COLUMNS}
    parts = []
    for first in range(0, len(paths), BATCH):
        # All columns, since a row with one too many is noticed only then; not all of all files.
        whole = polars.scan_csv(list(paths[first : first + BATCH]), schema=kinds).collect()
        parts.append(whole.select(_NEEDED))
    made = polars.concat(parts).with_columns(polars.col(_TEXTS).fill_null(""))
    col = polars.col
    times = [col(name) for name in ("min_s", "median_s")]
    bad = col("schema_version") != schema.SCHEMA_VERSION
    bad |= ~col("status").cast(polars.String).is_in(list(schema.STATUSES))
    bad |= (col("status").cast(polars.String) == "ok") & col("median_s").is_null()
    for time in times:
        bad |= time.is_not_null() & ((time < 0) | ~time.is_finite())
    required = [name for name in schema.REQUIRED if name in _TEXTS]
    for name in required:
        bad |= col(name).cast(polars.String) == ""
    if made.select(bad.fill_null(True).any()).item():
        raise ValueError("a row is not valid")
    return made


def _numbers(polars: Any, rows: Any) -> Many:
    """Return rows as numbers; BadFile where a cell stands twice in a run."""
    cells, cell = _coded(polars, rows, schema.CELL)
    runs, run = _coded(polars, rows, RUN)
    if len(pd.unique(cell * len(runs) + run)) != len(rows):
        raise reader.BadFile(
            "a cell stands twice in a run: two files hold the same one; leave one out"
        )
    codes = {name: code for code, name in enumerate(schema.STATUSES)}
    status = rows["status"].cast(polars.String).replace_strict(codes, return_dtype=polars.Int8)
    times = (rows[name].to_numpy() for name in ("min_s", "median_s"))
    return Many(cells, runs, cell, run, status.to_numpy(), *times)


def _coded(polars: Any, rows: Any, names: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the distinct values of some columns, sorted, and which of them each row has."""
    key = np.zeros(len(rows), np.int64)
    for name in names:
        code = rows[name].to_physical().cast(polars.Int64).fill_null(-1).to_numpy() + 1
        key, _ = pd.factorize(key * (code.max(initial=0) + 1) + code)
    _, first = np.unique(key, return_index=True)
    table = rows[first]
    made = pd.DataFrame({name: table[name].to_list() for name in names}).sort_values(list(names))
    rank = np.empty(len(made), np.int64)
    rank[made.index] = np.arange(len(made))
    return made.reset_index(drop=True), rank[key]
