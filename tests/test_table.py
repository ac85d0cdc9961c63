"""The table of a run and its units."""

import dataclasses

import pandas as pd
import pytest

from bench.report import table, units
from bench.stats.ratios import Ratio
from tests.helpers.frames import ROW


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.234e-9, "1.23 ns"),
        (5e-10, "0.500 ns"),
        (1.0e-6, "1.00 us"),
        (9.999e-7, "1.00 us"),
        (123.4e-6, "123 us"),
        (0.0999999, "100 ms"),
        (0.9999, "1.00 s"),
        (75.0, "75.0 s"),
        (0.0, "0 ns"),
    ],
)
def test_seconds(value, text):
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (2**20 - 1, "1.00 MiB"), (3e9, "2.79 GiB")],
)
def test_sizes(value, text):
    assert units.size(value) == text


def test_a_count_has_its_plural():
    assert [units.count(n, "cell") for n in (0, 1, 1200)] == ["0 cells", "1 cell", "1,200 cells"]


def test_rates():
    assert units.rate(1.32e10, "B") == "13.2 GB/s"
    assert units.rate(999, "FLOP") == "999 FLOP/s"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        ((1.15, 1.08, 1.24), "1.15 (1.08 to 1.24)"),
        ((0.098, 0.09, 0.11), "0.098 (0.090 to 0.11)"),
        ((0.47, 0.4, 0.55), "0.47 (0.40 to 0.55)"),
        ((1.994, 1.5, 2.5), "1.99 (1.50 to 2.50)"),
        ((1.996, 1.5, 2.5), "2.0 (1.5 to 2.5)"),
        ((2.44, 1.96, 3.1), "2.4 (2.0 to 3.1)"),
        ((19.4, 9.96, 104.0), "19 (10 to 100)"),
    ],
)
def test_ratios_near_one_have_two_decimals_and_others_two_figures(ratio, text):
    assert units.interval(Ratio(*ratio)) == text


def frame(*rows):
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def row(**changes):
    return dataclasses.replace(ROW, **{"params": "n=16", "median_s": 1e-6} | changes)


def test_rows_are_benchmarks_columns_are_dtypes():
    text = table.by_dtype(
        frame(
            row(dtype="float16", median_s=18e-6),
            row(dtype="float32"),
            row(dtype="bfloat16", status="unsupported", median_s=None),
            row(dtype="float32", params="n=4096", median_s=5e-6, status="wrong"),
            row(dtype="float16", params="n=4096", median_s=9e-6),
        )
    )
    lines = [line.split() for line in text.splitlines()]
    assert lines[2] == ["float32", "float16", "bfloat16"]
    assert lines[4] == ["cat:", "n"]
    assert lines[5] == ["16", "1.00", "us", "18.0", "us", "(18x)", "unsupported"]
    # a wrong time is no base of a ratio
    assert lines[6] == ["4096", "5.00", "us", "wrong", "9.00", "us"]


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (9.1e-7, 1.64e-6, "0.91-1.6 us unstable"),
        (1e-9, 1.64e-6, "< 1.6 us unstable"),
        (None, None, "1.00 us unstable"),  # schema 1 has no such interval
    ],
)
def test_a_time_that_is_not_settled_is_its_interval(low, high, shown):
    rough = {"median_s": 1e-6, "status": "unstable", "ci_low_s": low, "ci_high_s": high}
    text = table.by_dtype(frame(row(**rough), row(dtype="float16", median_s=2e-6)))
    assert text.splitlines()[-1].split() == ["cat", "n=16", *shown.split(), "2.00", "us"]


def test_a_table_fits_the_width_and_shows_each_entry_once():
    several = {"params": "implementation=single_tensor;optimizer=sgd_momentum"}
    rows = [row(dtype=dtype, median_s=1e-3, **several) for dtype in ("float32", "float16", "int8")]
    rows += [row(benchmark="tensor_from_a_long_list", dtype="float64", params="", peak_bytes=3)]
    text = table.by_dtype(frame(*rows), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("1.00 ms") == 3
    assert text.count("1.00 us") == 1
    assert text.count("3 B") == 1
    wide = table.by_dtype(frame(*rows), width=300)
    assert wide.count("median of one iteration") == 1


def test_single_calls_are_answers_and_no_times():
    single = {
        "schema_version": 2,
        "rounds": 1,
        "iterations": 1,
        "ci_low_s": None,
        "ci_high_s": None,
    }
    text = table.by_dtype(frame(row(**single), row(dtype="float16", status="wrong", **single)))
    assert text.startswith("cpu: answers checked, not timed")
    assert text.splitlines()[-1].split() == ["cat", "n=16", "checked", "wrong"]


def test_an_accelerator_is_set_beside_the_cpu_too():
    text = table.by_dtype(
        frame(
            row(median_s=8e-6),
            row(device="mps", median_s=2e-6),
            row(device="mps", dtype="float16", median_s=1e-6),
        )
    )
    assert "mps: median of one iteration (times as long as float32, as cpu float32)" in text
    assert text.splitlines()[-1].split()[2:] == [
        *("2.00", "us", "(0.25x)", "1.00", "us", "(0.50x,", "0.12x)"),
    ]


def test_the_peak_memory_has_a_column_if_a_row_has_it():
    text = table.by_dtype(
        frame(
            row(dtype="float32", peak_bytes=2**20),
            row(dtype="float16", peak_bytes=2**21),
            row(device="mps"),
        )
    )
    cpu, mps = text.split("\n\nmps: ")
    assert cpu.splitlines()[2].endswith("peak memory")
    assert cpu.splitlines()[-1].endswith("(1.00x)     2.00 MiB")
    assert "peak memory" not in mps
