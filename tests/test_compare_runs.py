"""Several runs as one."""

import pandas as pd
import pytest

from bench.compare import files, pooled, sides
from bench.records.writer import Writer
from bench.report import run_end
from tests.helpers.frames import frame, row


def test_the_middle_ok_run_stands_for_a_cell():
    table = frame(
        {"run_id": "a", "benchmark": "cat", "median_s": 3.0},
        {"run_id": "a", "benchmark": "neg", "status": "unsupported", "median_s": None},
        {"run_id": "b", "benchmark": "cat", "median_s": 1.0},
        {"run_id": "b", "benchmark": "neg", "status": "unsupported", "median_s": None},
        {"run_id": "c", "benchmark": "cat", "median_s": 2.0},
        {"run_id": "d", "benchmark": "cat", "median_s": 0.1, "status": "unstable"},
    )
    merged = pooled.pool(table)
    assert list(merged.benchmark) == ["cat", "neg"]
    assert merged.median_s[0] == 2.0
    assert list(merged.status) == ["ok", "unsupported"]
    assert pooled.pool(table.iloc[[0, 2]]).median_s[0] == 3.0
    assert pooled.pool(table.iloc[:0]).empty


def test_an_answer_that_was_wrong_in_one_run_is_wrong():
    table = frame(
        {"run_id": "a", "median_s": 3.0},
        {"run_id": "b", "status": "wrong", "reason": "off by 1", "median_s": 1.0},
        {"run_id": "c", "median_s": 2.0},
    )
    assert run_end.lines(pooled.pool(table))[1] == "wrong: tensors cat cpu float32: off by 1"


@pytest.mark.parametrize("column", ["params", "driver"])
def test_blank_texts_group_like_others(column):
    merged = pooled.pool(frame({column: ""}, {column: "", "run_id": "b"}))
    assert len(merged) == 1
    assert isinstance(merged, pd.DataFrame)


def test_a_copy_of_a_file_is_no_further_run(tmp_path):
    first, copy = tmp_path / "a.csv", tmp_path / "b.csv"
    writer = Writer(first)
    for run in range(2):
        writer.append(row(run_id=f"r{run}", median_s=1e-3 * (1 + run)))
    writer.close()
    copy.write_bytes(first.read_bytes())
    both = files.read([str(first), str(copy), str(first)])
    assert len(both) == 2
    assert both.attrs["notices"] == [f"{copy}: rows of runs that are there already, counted once"]
    # Side by side they are what was asked for.
    made = sides.compare(files.read([str(tmp_path)], copies=True), columns=("file",))
    assert {len(estimate.medians) for estimate in made.cells.values()} == {2}
    assert len(made.cells) == 2
