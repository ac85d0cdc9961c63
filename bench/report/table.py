"""One table per device: rows are benchmarks and their params, columns are dtypes."""

import math
from typing import Any

import pandas as pd

from bench.records import params, schema
from bench.report import fit, units
from bench.report.fit import Name

BASE_DTYPE = "float32"
BASE_DEVICE = "cpu"
#: An interval with ends that are further apart than this factor is shown as its upper end alone.
_VAGUE = 20


def _entry(row: Any, bases: list[float | None]) -> str:
    """Return the time and its ratios to the bases; a status other than `ok` replaces the ratios.

    A time that is not settled is shown as its interval.
    """
    status, median, low, high = row.status, row.median_s, row.ci_low_s, row.ci_high_s
    if pd.isna(median):
        return str(status)
    if status == "unstable" and pd.notna(low) and pd.notna(high) and low > 0:
        length, unit = units.scale(high)
        ends = [units.significant(end / length, 2) for end in (low, high)]
        known = f"{ends[0]}-{ends[1]}" if high <= _VAGUE * low else f"< {ends[1]}"
        return f"{known} {unit} unstable"
    text = units.seconds(median)
    if status != "ok":
        return f"{text} {status}"
    ratios = [f"{units.factor(median / base)}x" for base in bases if base]
    return f"{text} ({', '.join(ratios)})" if ratios else text


def by_dtype(frame: pd.DataFrame, width: int | None = None) -> str:
    """Return the tables of one run as text of that many columns, by default for the terminal.

    `frame` holds rows of `records.schema`. A ratio is the time over that of float32 on the same
    device, and on an accelerator a second one over float32 on the CPU: below 1 is faster. Rows
    that are not `ok` give no base. The columns that do not fit follow in further tables. The one
    of the peak memory, the largest over the dtypes, is there if a row of the device has it.
    """
    single = schema.single_call(frame)
    checked = single.any() and single.sum() == frame.median_s.notna().sum()
    if checked:  # a cold call is no time, and the ratio of two of them says nothing
        shown = frame.status.where(~(single & (frame.status == "ok")), "checked")
        frame = frame.assign(status=shown, median_s=math.nan)
    benchmarks = list(zip(frame.family, frame.benchmark, strict=True))
    titles = params.titles(benchmarks)
    frame = frame.assign(title=[titles[one] for one in benchmarks])
    base = frame[(frame.dtype == BASE_DTYPE) & (frame.status == "ok")]
    times = base.set_index(["device", "title", "params"]).median_s.to_dict()
    dtypes = sorted(dict.fromkeys(frame.dtype), key=lambda dtype: dtype != BASE_DTYPE)
    tables = []
    for device, own in frame.groupby("device", sort=False):
        host = device == BASE_DEVICE
        columns: dict[str, dict[Name, str]] = {name: {} for name in (*dtypes, "peak memory")}
        entries: Any = own.itertuples(index=False)
        for row in entries:
            name = (row.title, row.params)
            in_base = None if row.dtype == BASE_DTYPE else times.get((device, *name))
            on_host = None if host else times.get((BASE_DEVICE, *name))
            columns[row.dtype][name] = _entry(row, [in_base, on_host])
        peaks: Any = (
            own.peak_bytes.astype("float64").groupby([own.title, own.params]).max().dropna()
        )
        columns["peak memory"] = peaks.map(units.size).to_dict()
        order = list(dict.fromkeys(own.title))
        cells = dict.fromkeys(zip(own.title, own.params, strict=True))
        rows = sorted(cells, key=lambda n: (order.index(n[0]), params.natural(n[1])))
        ratio = f"times as long as {BASE_DTYPE}" + ("" if host else f", as {BASE_DEVICE} float32")
        head = f"{device}: median of one iteration ({ratio})"
        if checked:
            head = f"{device}: answers checked, not timed"
        columns = {name: column for name, column in columns.items() if column}
        first, *further = fit.folded(rows, columns, width)
        tables += [f"{head}\n\n{first}", *further]
    return "\n\n".join(tables)
