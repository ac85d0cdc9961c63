"""One table per device: rows are benchmark and params, columns are dtypes."""

from typing import Any

import pandas as pd
from tabulate import tabulate

from bench.records import params
from bench.report import units

BASE_DTYPE = "float32"
BASE_DEVICE = "cpu"

#: Family, benchmark and params of a line.
_Name = tuple[str, str, str]


def _entry(status: str, median: Any, bases: list[float | None]) -> str:
    """Return the time and its ratios to the bases; a status other than `ok` replaces the ratios."""
    if pd.isna(median):
        return status
    text = units.seconds(median)
    if status != "ok":
        return f"{text} {status}"
    ratios = [f"{units.significant(median / base, 2)}x" for base in bases if base]
    return f"{text} ({', '.join(ratios)})" if ratios else text


def by_dtype(frame: pd.DataFrame, tablefmt: str = "simple") -> str:
    """Return the tables of one run as text.

    `frame` holds rows of `records.schema`. A ratio is the time over that of float32 on the same
    device, and on an accelerator a second one over float32 on the CPU: below 1 is faster. Rows
    that are not `ok` give no base. The column of the peak memory, the largest over the dtypes,
    is there if a row of the device has it.
    """
    names = ("device", "family", "benchmark", "params", "dtype", "status", "median_s", "peak_bytes")
    lines: dict[str, dict[_Name, dict[str, tuple[str, Any]]]] = {}
    peaks: dict[tuple[str, _Name], int] = {}
    for device, *parts, dtype, status, median, peak in frame[list(names)].to_numpy().tolist():
        name = (parts[0], parts[1], parts[2])
        lines.setdefault(device, {}).setdefault(name, {})[dtype] = (status, median)
        if not pd.isna(peak):
            peaks[device, name] = max(peak, peaks.get((device, name), 0))
    dtypes = sorted(dict.fromkeys(frame.dtype), key=lambda dtype: dtype != BASE_DTYPE)

    def base(device: str, name: _Name) -> float | None:
        status, median = lines.get(device, {}).get(name, {}).get(BASE_DTYPE, ("", None))
        return median if status == "ok" else None

    tables = []
    for device, entries in lines.items():
        order = list(dict.fromkeys(name[:2] for name in entries))
        weighed = any(place[0] == device for place in peaks)
        host = device == BASE_DEVICE
        rows = []
        for name in sorted(entries, key=lambda n: (order.index(n[:2]), params.natural(n[2]))):
            row = [name[1], name[2].replace(";", " ")]
            for dtype in dtypes:
                own = None if dtype == BASE_DTYPE else base(device, name)
                bases = [own, None if host else base(BASE_DEVICE, name)]
                row.append(_entry(*entries[name][dtype], bases) if dtype in entries[name] else "")
            peak = peaks.get((device, name))
            rows.append(row + ([units.size(peak) if peak is not None else ""] if weighed else []))
        ratio = f"times as long as {BASE_DTYPE}" + ("" if host else f", as {BASE_DEVICE} float32")
        headers = ["benchmark", "params", *dtypes, *(["peak memory"] if weighed else [])]
        align = ["left", "left", *["right"] * (len(headers) - 2)]
        table = tabulate(rows, headers, tablefmt, colalign=align, disable_numparse=True)
        tables.append(f"{device}: median of one iteration ({ratio})\n\n{table}")
    return "\n\n".join(tables)
