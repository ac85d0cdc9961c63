"""The cells of one machine by name, for rules that look some of them up."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from bench.compare import estimates
from bench.compare.estimates import Estimate
from bench.records.schema import split_params

_KEYS = ("family", "benchmark", "device", "dtype", "params")


@dataclass(frozen=True)
class Cell:
    """A cell, what is known of its time, and the work declared for one iteration."""

    family: str
    benchmark: str
    device: str
    dtype: str
    params: dict[str, str]
    estimate: Estimate
    items: float | None
    bytes: float | None
    flop: float | None

    @property
    def name(self) -> str:
        """The benchmark and its params, as a sentence has them."""
        return " ".join([self.benchmark, *(f"{k}={v}" for k, v in self.params.items())])

    def number(self, param: str) -> float | None:
        """The value of a param as a positive number, or None."""
        try:
            value = float(self.params[param])
        except (KeyError, ValueError):
            return None
        return value if 0 < value < float("inf") else None

    def rate(self, amount: float | None) -> float | None:
        """`amount` a second, or None where either is not known."""
        seconds = self.estimate.seconds
        return amount / seconds if amount and seconds else None


def _amount(value: float) -> float | None:
    """Return a number of the frame, or None where it is blank."""
    return None if math.isnan(value) else value


def of(frame: pd.DataFrame) -> list[Cell]:
    """Return the cells of a frame in the order of their first rows, runs put together."""
    first = frame.drop_duplicates(list(_KEYS))
    found = estimates.by_group(frame, list(_KEYS), [])
    made = []
    amounts = dict.fromkeys(("items", "bytes", "flop"), "float64")
    for row in first[[*_KEYS, *amounts]].astype(amounts).itertuples(index=False):
        family, benchmark, device, dtype, params = key = tuple(map(str, row[:5]))
        items, moved, flop = map(_amount, row[5:])
        made.append(
            Cell(
                *(family, benchmark, device, dtype),
                params=split_params(params),
                estimate=found[key, ()],
                items=items,
                bytes=moved,
                flop=flop,
            )
        )
    return made


def contrasts(cells: list[Cell], param: str) -> Iterator[dict[str, Cell]]:
    """Give the groups of cells that differ in one param alone, by its value."""
    groups: dict[tuple[object, ...], dict[str, Cell]] = {}
    for cell in cells:
        if param in cell.params:
            rest = tuple((k, v) for k, v in cell.params.items() if k != param)
            key = (cell.family, cell.benchmark, cell.device, cell.dtype, rest)
            groups.setdefault(key, {})[cell.params[param]] = cell
    yield from groups.values()


def across(cells: list[Cell], attribute: str) -> Iterator[dict[str, Cell]]:
    """Give the groups of cells that differ in device or dtype alone, by its value."""
    groups: dict[tuple[object, ...], dict[str, Cell]] = {}
    for cell in cells:
        parts = {name: getattr(cell, name) for name in _KEYS[:4] if name != attribute}
        key = (*parts.values(), tuple(cell.params.items()))
        groups.setdefault(key, {})[getattr(cell, attribute)] = cell
    yield from groups.values()
