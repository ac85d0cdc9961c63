"""The cells of one machine, by name, for the rules that compare them."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from bench.compare import estimates
from bench.compare.estimates import Estimate
from bench.records.params import split, titles
from bench.records.schema import CELL, FAULTLESS

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
#: Columns of the work declared for one iteration.
_AMOUNTS = ("items", "bytes", "flop")
#: Columns of what a cell costs besides its time, the error of its answer, and what disturbed it.
_COSTS = ("first_call_s", "device_s", "dispatch_s", "peak_bytes", "rel_error", "stolen", "slowdown")


@dataclass(frozen=True)
class Setting:
    """The rows of one machine with one torch and one number of threads.

    Only such runs are replicates of each other. `torch` and `threads` are words such as ``torch
    2.14.0`` and ``4 threads``, blank if unknown. `name` is the machine, with torch and threads if
    the frame has several settings of it.
    """

    machine: str
    torch: str
    threads: str
    name: str
    rows: pd.DataFrame


def _threads(count: Any) -> str:
    return "" if pd.isna(count) else f"{count} thread{'' if count == 1 else 's'}"


def settings(frame: pd.DataFrame) -> list[Setting]:
    """Return the rows of a frame by machine, torch and threads.

    The settings of a machine follow each other, the one that was timed last first.
    """
    made = []
    for machine, rows in frame.groupby("machine", sort=False):
        kinds = rows.groupby(["torch", "threads"], sort=False, dropna=False)
        newest = sorted(kinds, key=lambda kind: str(kind[1].run_started.max()), reverse=True)
        for (version, count), chosen in newest:
            words = str(machine), f"torch {version}" if version else "", _threads(count)
            name = str(machine) if len(newest) == 1 else ", ".join(filter(None, words))
            made.append(Setting(*words, name, chosen))
    return made


@dataclass(frozen=True)
class Cell:
    """A cell: its time, the work declared for one iteration, and what else it costs.

    What it costs, its error and what disturbed it are medians over the faultless runs. `name` is
    that of the benchmark, with its family if another family has a benchmark of that name.
    """

    family: str
    benchmark: str
    device: str
    dtype: str
    params: dict[str, str]
    estimate: Estimate
    items: float | None
    bytes: float | None
    flop: float | None
    first_call_s: float | None
    device_s: float | None
    dispatch_s: float | None
    peak_bytes: float | None
    rel_error: float | None
    stolen: float | None
    slowdown: float | None
    name: str

    @property
    def settled(self) -> bool:
        """Whether the time of the cell is known well enough to print it."""
        return bool(self.estimate.medians)

    def number(self, param: str) -> float:
        """The value of a param as a positive number, 0 if it is none."""
        try:
            value = float(self.params[param])
        except (KeyError, ValueError):
            return 0.0
        return value if 0 < value < math.inf else 0.0

    def rate(self, work: str) -> float:
        """The `items`, `bytes` or `flop` per second, 0 if they or the settled time are unknown."""
        amount, seconds = getattr(self, work), self.estimate.seconds
        return amount / seconds if amount and seconds else 0.0


def of(frame: pd.DataFrame) -> list[Cell]:
    """Return the cells of a frame in the order of their first rows; runs are combined."""
    keys, found = list(CELL), estimates.by_group(frame, CELL, [])
    floats = frame.astype(dict.fromkeys((*_AMOUNTS, *_COSTS), "float64"))
    amounts = floats.drop_duplicates(keys).set_index(keys)[list(_AMOUNTS)]
    faultless = floats[frame.status.isin(FAULTLESS)]
    costs = faultless.groupby(keys, sort=False)[list(_COSTS)].median()
    table = amounts.join(costs)
    names = titles((family, benchmark) for family, benchmark, *_ in table.index)
    made = []
    for key, *figures in table.itertuples():
        family, benchmark, device, dtype, params = key
        place = family, benchmark, device, dtype, split(params)
        columns = zip(table, figures, strict=True)
        known: Any = {name: None if math.isnan(value) else value for name, value in columns}
        made.append(Cell(*place, found[key, ()], name=names[family, benchmark], **known))
    return made


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return items by their keys, in the order of the first item of each."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def alike(cells: Iterable[Cell], *fields: str, param: str = "") -> Iterator[list[Cell]]:
    """Yield the groups of cells that differ only in `fields` and the value of `param`."""

    def shared(cell: Cell) -> tuple[object, ...]:
        parts = (getattr(cell, name) for name in CELL[:4] if name not in fields)
        return *parts, *((name, value) for name, value in cell.params.items() if name != param)

    yield from grouped(cells, shared).values()
