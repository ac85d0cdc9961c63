"""Rows, frames and files of results for the tests."""

import csv
import dataclasses

import pandas as pd

from bench.records import reader, schema
from bench.records.writer import Writer

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
    return reader.frame([dict(vars(row(**columns))) for columns in rows])


#: Text that is code somewhere: in HTML, Markdown, a terminal or a spreadsheet.
HOSTILE = "<script>alert(1)</script>[x](http://e.vil)|`a`@user\x1b[31m\u202e=1+1"

#: A row with a value in most columns.
ROW = row(
    **{"run_id": "r1", "cpu_count": 2, "threads": 2, "params": "dim=0;n=16", "rounds": 3},
    **{"iterations": 10, "median_s": 1.25e-6, "items": 0, "rel_error": 1e-8},
)


def store(path, *rows) -> str:
    """Write a result file of `rows` and return its path."""
    writer = Writer(path)
    for columns in rows:
        writer.append(row(**columns))
    writer.close()
    return str(path)


def two_rows(path):
    """Write a file of `ROW` and of a cell that differs in a param."""
    writer = Writer(path)
    writer.append(ROW)
    writer.append(dataclasses.replace(ROW, params="dim=1;n=16", median_s=2e-3, drift=-0.1))
    writer.close()
    return path


def schema_1(path):
    """Make a file of schema 1 of one of schema 2."""
    width = schema.WIDTHS[1]
    rows = [row[:width] for row in csv.reader(path.read_text().splitlines())]
    rows[1:] = [["1", *row[1:]] for row in rows[1:]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
