"""A comparison: what its columns are, and the estimate of each cell in each of them."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import pandas as pd

from bench.compare import estimates, files
from bench.compare.estimates import Estimate
from bench.records import choices
from bench.records.choices import UserError
from bench.records.schema import CELL as ROWS
from bench.records.schema import COLUMNS, UNKNOWN
from bench.stats.ratios import Ratio

#: What the columns of a comparison can be: names that users type, and their columns of the CSV.
ASPECTS = {
    **{name: name for name in ("machine", "device", "dtype", "torch", "threads", "python", "file")},
    "run": "run_id",
}
#: How a side is named by the aspects whose values say little alone.
_WORDS = {"torch": "torch {}", "threads": "threads {}", "python": "Python {}"}
#: Columns of the environment that should be equal unless the user compares them.
ENVIRONMENT = ("machine", "cpu", "torch", "torchvision", "python", "threads", "os", "driver")
#: What can be compared: every column of a time, and the peak memory; one value of each run.
COMPARED = (*(name for name in COLUMNS if name.endswith("_s")), "peak_bytes")
#: The most columns of a table that were not asked for.
WIDE = 12


class CannotCompare(UserError, ValueError):
    """The comparison asked for makes no sense; the message is one line for the user."""


@dataclass(frozen=True)
class Comparison:
    """Estimates of each cell on each side.

    `rows` are the names of the cells, `sides` those of the columns, `baseline` is one of the sides;
    `cells` maps row and side to the estimate. `equal` is the environment that all rows share,
    `warnings` holds what else differs.
    """

    row_names: tuple[str, ...]
    side_names: tuple[str, ...]
    rows: list[tuple[str, ...]]
    sides: list[tuple[str, ...]]
    baseline: tuple[str, ...]
    cells: dict[tuple[tuple[str, ...], tuple[str, ...]], Estimate]
    column: str
    equal: dict[str, str]
    warnings: list[str]

    @property
    def others(self) -> list[tuple[str, ...]]:
        """The sides besides the baseline."""
        return [side for side in self.sides if side != self.baseline]

    @functools.cached_property
    def labels(self) -> dict[tuple[str, ...], str]:
        """The sides in words; files without the folders that all of them are in."""
        made = {}
        named = [dict(zip(self.side_names, side, strict=True)) for side in self.sides]
        folders = [PurePath(side.get("file", "")).parent.parts for side in named]
        levels = zip(*folders, strict=False)
        shared = len([*itertools.takewhile(lambda names: len({*names}) == 1, levels)])
        for side, known in zip(self.sides, named, strict=True):
            if "file" in known:
                known["file"] = str(PurePath(*PurePath(known["file"]).parts[shared:]))
            words = (_WORDS.get(k, "{}").format(v or UNKNOWN) for k, v in known.items())
            made[side] = ", ".join(words)
        return made

    @functools.cached_property
    def ratios(self) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Ratio]:
        """The ratio of each cell to the baseline, if both were measured."""
        found = {}
        for (row, side), here in self.cells.items():
            base = self.cells.get((row, self.baseline))
            if base is None or side == self.baseline:
                continue
            # From a single run, nothing is known of the noise of other columns between runs.
            runs = min(len(here.medians), len(base.medians))
            if (self.column == "median_s" or runs > 1) and (made := estimates.ratio(here, base)):
                found[row, side] = made
        return found


def names(text: str | None, option: str) -> tuple[str, ...] | None:
    """Return the aspects in ``a,b``; CannotCompare if one is unknown."""
    if text is None:
        return None
    given = tuple(name.strip() for name in text.split(",") if name.strip())
    if fault := choices.unknown(given, ASPECTS):
        raise CannotCompare(f"{option}: {fault}")
    return given


def where(frame: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Return the rows that meet every condition, ``column=value`` (or ``a|b``)."""
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if fault := choices.unknown([column], frame.columns):
            raise CannotCompare(f"--where {condition!r}: {fault}")
        values = files.texts(frame[column])
        frame = frame[values.isin(value.split("|"))]
        if frame.empty or not equals:
            few = ", ".join(values.unique()[:8])
            raise CannotCompare(
                f"--where {condition!r}: give {column}=VALUE, for example of: {few}"
            )
    return frame


def choose(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the default columns: what differs between machines, else files, devices or dtypes."""
    differs = [n for n, column in ASPECTS.items() if frame[column].nunique(dropna=False) > 1]
    between = tuple(name for name in ("machine", "torch", "threads", "python") if name in differs)
    if between:
        return between
    if "file" in differs:
        return ("file",)
    return ("device",) if "device" in differs else ("dtype",)


def _baseline(comparison: Comparison, wanted: str | None) -> tuple[str, ...]:
    sides, labels = comparison.sides, comparison.labels
    if wanted is None:
        preferred = {"cpu", "float32"}
        return next((side for side in sides if preferred & set(side)), sides[0])
    matches = [side for side in sides if wanted in (*side, labels[side])]
    if len(matches) != 1:
        known = ", ".join(repr(labels[side]) for side in sides[:8])
        what = "matches several" if matches else "matches none"
        columns = "/".join(comparison.side_names)
        raise CannotCompare(f"--baseline {wanted!r} {what} of {columns}: {known}")
    return matches[0]


def _with_times(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the frame with another column in place of the median, which has no interval."""
    if fault := choices.unknown([column], COMPARED):
        raise CannotCompare(f"--time: {fault}")
    values = frame[column].astype("float64")
    if not values.gt(0).any():
        raise CannotCompare(f"--time {column}: no row has a value; docs/csv.md says which have one")
    made = frame.assign(median_s=values, ci_low_s=math.nan, ci_high_s=math.nan)
    made.attrs = frame.attrs
    return made


def compare(
    frame: pd.DataFrame,
    columns: tuple[str, ...] | None = None,
    rows: tuple[str, ...] | None = None,
    baseline: str | None = None,
    column: str = "median_s",
) -> Comparison:
    """Compare the sides of a frame (as `files.read` gives it) by one of the columns `COMPARED`.

    By default the columns are those of `choose`. `rows` are aspects to add to the names of cells.
    Raises CannotCompare.
    """
    if column != "median_s":
        frame = _with_times(frame, column)
    side_names = columns or choose(frame)
    extra = [name for name in rows or () if name not in side_names and name not in ROWS]
    row_names = tuple(name for name in ROWS if name not in side_names) + tuple(extra)
    warnings: list[str] = []
    if "file" not in (*side_names, *extra):
        known = frame.attrs.get("notices", [])
        frame = files.once(frame)
        warnings += [notice for notice in frame.attrs.get("notices", []) if notice not in known]
    side_columns = [ASPECTS[name] for name in side_names]
    row_columns = [ASPECTS.get(name, name) for name in row_names]
    texts = frame.assign(**{c: files.texts(frame[c]) for c in [*side_columns, *row_columns]})
    found = estimates.by_group(texts, row_columns, side_columns)
    if column != "median_s":
        for key, estimate in found.items():
            if estimate.status == "unmeasurable":
                found[key] = replace(estimate, status="not measured")
    distinct = texts[side_columns].drop_duplicates().to_numpy().tolist()
    sides: list[tuple[str, ...]] = [tuple(map(str, side)) for side in distinct]
    asked = {ASPECTS[name] for name in (*side_names, *extra)}
    equal = {}
    for name in ENVIRONMENT:
        everywhere = files.values(frame[name])
        known = everywhere - {""}  # such as the driver, which a CPU does not have
        if len(known) == 1 == len(everywhere):
            equal[name] = known.pop()
        elif len(known) > 1 and name not in asked:
            shown = ", ".join(sorted(known)[:4])
            warnings.append(f"{name} differs too and was not asked about: {shown}")
    rows_ = list(dict.fromkeys(row for row, _ in found))
    made = Comparison(row_names, side_names, rows_, sides, sides[0], found, column, equal, warnings)
    return replace(made, baseline=_baseline(made, baseline))


def narrowed(comparison: Comparison) -> Comparison:
    """Return the baseline and the first other sides, `WIDE` in all, with a warning."""
    if len(comparison.sides) <= WIDE:
        return comparison
    others = [side for side in comparison.sides if side != comparison.baseline][: WIDE - 1]
    kept = [side for side in comparison.sides if side in {comparison.baseline, *others}]
    names = ",".join(comparison.side_names)
    shown = f"{WIDE} of {len(comparison.sides)} columns are shown; --columns {names} shows all, "
    return replace(
        comparison,
        sides=kept,
        cells={key: one for key, one in comparison.cells.items() if key[1] in set(kept)},
        warnings=[*comparison.warnings, shown + "--outliers names the machines that differ"],
    )
