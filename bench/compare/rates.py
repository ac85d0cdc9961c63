"""Rates from declared amounts of work, and what they say side by side."""

import math
import re

import pandas as pd

from bench.records.schema import split_params


def items_per_second(frame: pd.DataFrame) -> pd.Series:
    """Return items of work a second for each row; NaN where a row has no time or no items."""
    return frame["items"].astype("float64") / frame.median_s


def _batch(params: str) -> float:
    """Return the batch size in params, NaN where they have none."""
    text = split_params(params).get("batch", "")
    return float(text) if re.fullmatch(r"\d{1,9}", text) else math.nan


def bottlenecks(frame: pd.DataFrame) -> list[str]:
    """Say for each device whether loading images keeps up with the training step.

    The best DataLoader setting timed, in images a second, beside the step in its fastest dtype at
    the batch size nearest to the loader's, in samples a second.
    """
    ok = frame[(frame.status == "ok") & frame.benchmark.isin(("loader", "step"))]
    ok = ok.assign(rate=items_per_second(ok), batch=ok.params.map(_batch).astype("float64"))
    ok = ok.dropna(subset=["rate", "batch"]).sort_values("rate")
    loaders = ok[(ok.family == "loading") & (ok.benchmark == "loader")]
    steps = ok[(ok.family == "training") & (ok.benchmark == "step")]
    if loaders.empty or steps.empty:
        return []
    fastest, params = loaders.rate.iloc[-1], loaders.params.iloc[-1]
    away = (steps.batch - loaders.batch.iloc[-1]).abs()
    said = [f"loading gives {fastest:,.0f} images/s at best ({params.replace(';', ' ')})"]
    for device, group in steps[away == away.min()].groupby("device", sort=False):
        rate, dtype, size = (group[name].iloc[-1] for name in ("rate", "dtype", "params"))
        verdict = "loading is the bottleneck" if fastest < rate else "loading keeps up"
        said.append(
            f"a training step on {device} takes {rate:,.0f} samples/s ({dtype}, {size}): {verdict}"
        )
    return said
