"""Many result files: the same figures from all at once as from each, and what is wrong is named."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cli import main
from bench.compare import files, outliers, spread
from bench.records import many, reader
from bench.records.many import Many
from bench.records.writer import Writer
from tests.helpers.fleets import fleet
from tests.helpers.frames import row

polars = pytest.importorskip("polars", reason="an optional extra")
COLUMNS = ["machine", "run_id", "benchmark", "params", "status", "min_s", "median_s"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A CSV for each of thirty machines, which is many."""
    monkeypatch.setattr(many, "FILES", 20)
    rows = fleet(30, runs=2, slow=[("node-2", "matmul", 0, 1.5)])
    rows.loc[rows.index[::50], "status"] = "unstable"
    for name, own in rows.groupby("machine"):
        writer = Writer(tmp_path / f"{name}.csv")
        for each in own[COLUMNS].to_dict("records"):
            writer.append(row(**each))
        writer.close()
    return tmp_path


def bench(*words):
    return CliRunner().invoke(main.app, list(map(str, words)))


def test_all_at_once_and_one_by_one_give_the_same(folder):
    together, notices = files.read_many([str(folder)])
    alone = Many.of(files.read([str(folder)]))
    assert notices == []
    pd.testing.assert_frame_equal(
        together.cells, alone.cells, check_dtype=False, check_column_type=False
    )
    assert together.runs.astype(str).equals(alone.runs.astype(str))
    runs = np.arange(len(alone.runs))
    for one in (together, alone):
        assert len(one.cell) == 30 * 2 * 41
    tables = [one.table(one.seconds(), runs) for one in (together, alone)]
    np.testing.assert_array_equal(*tables)
    assert np.isnan(tables[0]).sum() == -(-30 * 2 * 41 // 50)
    assert outliers.find(together) == outliers.find(alone)
    assert spread.of(together) == spread.of(alone)


def test_percentiles_and_ends_are_those_of_the_machines():
    rows = fleet(11, noise=0, flukes=0)
    step = {f"node-{n}": 1 + n / 10 for n in range(11)}
    rows["median_s"] = 1e-3 * rows.machine.map(step)
    rows.loc[(rows.machine == "node-10") & (rows.benchmark == "item"), "status"] = "error"
    found = {one.key[1]: one for one in spread.of(Many.of(rows))}
    one = found["matmul"]
    assert (one.low, one.median, one.high) == pytest.approx((1.1e-3, 1.5e-3, 1.9e-3))
    assert one.fastest == ("node-0", pytest.approx(1e-3))
    assert one.slowest == ("node-10", pytest.approx(2e-3))
    assert (one.machines, one.without) == (11, 0)
    assert (found["item"].machines, found["item"].without) == (10, 1)


@pytest.mark.parametrize("format_", ["terminal", "markdown", "csv", "json"])
def test_compare_shows_how_far_they_lie_apart(folder, format_):
    done = bench("compare", folder, "--format", format_)
    assert done.exit_code == 0, done.output
    if format_ == "json":
        assert len(json.loads(done.output)) == 41
    elif format_ == "csv":
        assert done.output.startswith("family,benchmark,device,dtype,params,machines,")
    else:
        assert "30 machines, 60 runs, 2,460 rows" in done.output
        assert "softmax" in done.output


def test_more_machines_than_columns_are_a_crowd_too(folder, monkeypatch):
    monkeypatch.setattr(many, "FILES", 1000)
    assert "30 machines, 60 runs" in bench("compare", folder).output
    assert "30 machines, 60 runs" in bench("report", folder, "--markdown").output


def test_rows_are_chosen_and_a_wrong_choice_is_one_line(folder):
    words = ("compare", folder, "--where", "benchmark=matmul")
    assert "matmul cpu float32 n=1024" in bench(*words).output
    assert "softmax" not in bench(*words).output
    done = bench("compare", folder, "--where", "colour=red")
    assert done.exit_code == 2
    assert "--where 'colour=red': give COLUMN=VALUE" in done.output


def test_outliers_and_the_page_of_many(folder):
    assert "node-2: matmul on cpu" in bench("compare", folder, "--outliers").output
    done = bench("report", folder, "-o", folder / "page.html")
    assert done.exit_code == 0, done.output
    page = (folder / "page.html").read_text()
    assert "30 machines, 60 runs, 2,460 rows" in page
    assert "node-2: matmul on cpu" in page
    assert page.count("<tr>") == 42
    assert bench("report", folder, "--png", folder / "x").exit_code == 2


def test_half_a_row_is_left_out_and_told(folder):
    path = folder / "node-3.csv"
    path.write_bytes(path.read_bytes()[:-20])
    rows, notices = files.read_many([str(folder)])
    assert len(rows.cell) == 30 * 2 * 41 - 1
    assert len(notices) == 1
    assert "half a row, left out" in notices[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",ok,", ",fine,", "unknown status 'fine'"),
        ("\r\n1,", "\r\n2,", "schema 2 is newer"),
        (",ok,", ",ok,,,", "fields where the header has"),
        ("schema_version", "version", "column 'schema_version' is missing"),
        (",tensors,", ",,", "blank"),
    ],
)
def test_one_bad_file_among_many_is_named(folder, old, new, said):
    path = folder / "node-7.csv"
    text = path.read_bytes().decode()
    path.write_bytes(text.replace(old, new, 3).encode())
    done = bench("compare", folder)
    assert done.exit_code == 2
    assert done.output.startswith(f"bench: {path}, line ")
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_cell_twice_in_a_run_is_refused(folder):
    text = (folder / "node-7.csv").read_bytes()
    (folder / "again.csv").write_bytes(text)
    with pytest.raises(reader.BadFile, match="stands twice in a run"):
        files.read_many([str(folder)])


def test_odd_times_and_params_are_read_as_they_are(tmp_path, monkeypatch):
    rows = fleet(13)
    rows.loc[rows.benchmark == "item", "median_s"] = 0.0
    rows.loc[rows.benchmark == "item", "params"] = "version=1.2.3"
    wrong = (rows.benchmark == "add") & (rows.machine == "node-3")
    rows.loc[wrong, "status"] = "wrong"
    found = spread.of(Many.of(rows))
    assert "item" not in {one.key[1] for one in found}
    assert {one.machines for one in found if one.key[1] == "add"} == {12}
    assert outliers.find(Many.of(rows))


def test_many_files_without_a_row_are_refused(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(reader.BadFile, match="no row in any file"):
        files.read_many([str(folder)])


def test_a_copy_of_a_run_is_no_second_one(folder, monkeypatch):
    monkeypatch.setattr(many, "FILES", 1000)
    (folder / "again.csv").write_bytes((folder / "node-7.csv").read_bytes())
    done = bench("compare", folder)
    assert f"30 machines, 60 runs, {30 * 2 * 41:,} rows" in done.output
    assert "rows of runs that another file has too, counted once" in done.output


def test_without_polars_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    done = bench("compare", folder, "--outliers")
    assert done.exit_code == 2
    assert "30 files are read by Polars: pip install 'torch-device-bench[fleet]'" in done.output


def test_controls_in_names_do_not_reach_the_terminal(folder):
    path = folder / "node-7.csv"
    path.write_bytes(path.read_bytes().replace(b",node-7,", b",node\x1b[31m7,"))
    assert "\x1b" not in bench("compare", folder).output
