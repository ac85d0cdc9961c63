"""Frames of result rows, as the reader gives them."""

import dataclasses

import pandas as pd

from bench.records import reader, schema

BASE = {
    "suite_version": "0",
    "run_id": "a",
    "run_started": "2026-01-01T00:00:00Z",
    "machine": "here",
    "os": "Linux",
    "python": "3.12.0",
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "cpu": "a CPU",
    "cpu_count": 8,
    "memory_bytes": 2**34,
    "threads": 4,
    "device_name": "a CPU",
    "driver": "",
    "family": "tensors",
    "benchmark": "cat",
    "device": "cpu",
    "dtype": "float32",
    "params": "",
    "status": "ok",
    "median_s": 1e-3,
}


def row(**columns) -> schema.Row:
    """One row, with `columns` in place of ordinary ones."""
    return schema.Row(**(BASE | columns))


def frame(*rows) -> pd.DataFrame:
    """Rows given by what is not ordinary in each."""
    return reader.frame([dataclasses.asdict(row(**columns)) for columns in rows])
