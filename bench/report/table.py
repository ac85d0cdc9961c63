"""One table per device: rows are benchmark and params, columns are dtypes."""

import pandas as pd
from tabulate import tabulate

from bench.records.schema import natural_params
from bench.report import units

BASE_DTYPE = "float32"
BASE_DEVICE = "cpu"


def _ratio(median: float, base: float | None) -> str:
    """How many times as long as the base it takes, or nothing where there is no base."""
    return f"{units.significant(median / base, 2)}x" if base else ""


def _entry(row: dict[str, object], bases: list[float | None]) -> str:
    """One cell of the table: the time and its ratios, or why there is none.

    Of the statuses with a time only `ok` is shown as it is; any other is named beside its time.
    """
    median = row["median_s"]
    if not isinstance(median, float) or pd.isna(median):
        return str(row["status"])
    text = units.seconds(median)
    if row["status"] != "ok":
        return f"{text} {row['status']}"
    ratios = [_ratio(median, base) for base in bases]
    return f"{text} ({', '.join(filter(None, ratios))})" if any(ratios) else text


def by_dtype(frame: pd.DataFrame, tablefmt: str = "simple") -> str:
    """Return the tables of one run as text.

    `frame` holds rows of `records.schema`. A ratio is the time over that of float32 on the same
    device, and on an accelerator a second one over float32 on the CPU: below 1 is faster. Rows
    that are not `ok` give no base.
    """
    columns = ["device", "benchmark", "params", "dtype", "status", "median_s"]
    records = [dict(zip(columns, row, strict=True)) for row in frame[columns].to_numpy().tolist()]
    cells: dict[tuple[str, str, str], dict[str, dict[str, object]]] = {}
    ok: dict[tuple[str, ...], float] = {}
    for row in records:
        name = (str(row["device"]), str(row["benchmark"]), str(row["params"]))
        cells.setdefault(name, {})[str(row["dtype"])] = row
        if row["status"] == "ok":
            ok[(*name, str(row["dtype"]))] = row["median_s"]
    found = list(dict.fromkeys(str(row["dtype"]) for row in records))
    names = sorted(found, key=lambda name: (name != BASE_DTYPE, found.index(name)))
    parts = []
    for device in dict.fromkeys(name[0] for name in cells):
        lines = []
        rows = [name for name in cells if name[0] == device]
        order = list(dict.fromkeys(name[1] for name in rows))
        for name in sorted(rows, key=lambda n: (order.index(n[1]), natural_params(n[2]))):
            line = [name[1], name[2].replace(";", " ")]
            for dtype in names:
                entry = cells[name].get(dtype)
                own = None if dtype == BASE_DTYPE else ok.get((*name, BASE_DTYPE))
                host = ok.get((BASE_DEVICE, *name[1:], BASE_DTYPE))
                bases = [own, None if device == BASE_DEVICE else host]
                line.append("" if entry is None else _entry(entry, bases))
            lines.append(line)
        ratio = f"(times as long as {BASE_DTYPE}"
        ratio += ")" if device == BASE_DEVICE else f", as {BASE_DEVICE} {BASE_DTYPE})"
        title = f"{device}: median of one iteration {ratio}"
        headers = ["benchmark", "params", *names]
        align = ("left", "left", *["right"] * len(names))
        table = tabulate(lines, headers, tablefmt, colalign=align, disable_numparse=True)
        parts.append(f"{title}\n\n{table}")
    return "\n\n".join(parts)
