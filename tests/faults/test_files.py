"""Results that another program changes while a run writes them, and outputs that break off."""

import dataclasses
import os
from pathlib import Path

import pytest

from bench.compare import files as stored
from bench.records import files, reader
from bench.records.writer import BadRow, CannotWrite, Writer, reopen
from tests.helpers.command import run_bench
from tests.helpers.frames import ROW, store

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files cannot be replaced there")


def replaced(path):
    other = path.with_suffix(".part")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def truncated(path):
    os.truncate(path, 10)


def grown(path):
    with path.open("ab") as file:
        file.write(b"half a row")


FAULTS = {
    "deleted": os.unlink,
    "renamed": lambda path: path.rename(path.with_name("else.txt")),
    "replaced": replaced,
    "truncated": truncated,
    "grown": grown,
}


@pytest.mark.parametrize("when", ["before the last row", "at the end"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_row_is_lost_when_the_file_is_changed(tmp_path, fault, when):
    writer = Writer(tmp_path / "a.csv")
    writer.append(ROW)
    writer.append(dataclasses.replace(ROW, params="n=1"))
    if when == "at the end":
        writer.append(dataclasses.replace(ROW, params="n=2"))
    FAULTS[fault](tmp_path / "a.csv")
    if when != "at the end":
        writer.append(dataclasses.replace(ROW, params="n=2"))
    writer.close()
    assert writer.path == tmp_path / "a-2.csv"
    assert list(reader.read(writer.path).params) == ["dim=0;n=16", "n=1", "n=2"]
    (notice,) = writer.notices
    assert "changed by another program" in notice
    assert "a-2.csv" in notice


def test_a_forked_child_writes_nothing(tmp_path):
    writer = Writer(tmp_path / "a.csv")
    child = os.fork()
    if child == 0:
        try:
            writer.append(ROW)
        except BadRow:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.append(ROW)
    writer.close()
    assert len(reader.read(tmp_path / "a.csv")) == 1


def test_a_file_whose_descriptor_was_closed_goes_on_in_another(tmp_path):
    """The new file got the number of the old one, and was closed in its place."""
    writer = Writer(tmp_path / "a.csv")
    writer.append(ROW)
    os.close(writer._file.fileno())
    writer.append(dataclasses.replace(ROW, params="n=1"))
    writer.close()
    assert list(reader.read(tmp_path / "a-2.csv").params) == ["dim=0;n=16", "n=1"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_of_results_that_is_none_is_named(tmp_path):
    (tmp_path / "results").symlink_to("nowhere")
    with pytest.raises(CannotWrite) as caught:
        Writer(tmp_path / "results" / "a.csv")
    assert "--resume" not in str(caught.value)


def test_the_longest_name_of_a_file_is_updated_too(tmp_path):
    path = tmp_path / ("a" * 251 + ".csv")
    writer = Writer(path)
    writer.append(ROW)
    writer.replace([dataclasses.replace(ROW, median_s=1.0, min_s=None)])
    writer.close()
    assert list(reader.read(path).median_s) == [1.0]


def test_rows_of_a_run_that_ended_meanwhile_are_noticed(tmp_path):
    """Two resumes at once timed the same cells: the second one read the file before the lock."""
    writer = Writer(tmp_path / "a.csv")
    writer.append(ROW)
    size = (tmp_path / "a.csv").stat().st_size
    writer.append(dataclasses.replace(ROW, params="n=1"))
    writer.close()
    with pytest.raises(CannotWrite, match="has other rows than a moment ago; continue it again"):
        reopen(tmp_path / "a.csv", size)
    assert len(reader.read(tmp_path / "a.csv")) == 2


def test_a_second_attempt_takes_the_place_of_the_first(tmp_path):
    writer = Writer(tmp_path / "a.csv")
    writer.append(dataclasses.replace(ROW, params="n=1"))
    writer.append(dataclasses.replace(ROW, status="error", reason="once"))
    writer.append(ROW)
    writer.close()
    assert list(reader.read(tmp_path / "a.csv").status) == ["ok", "ok"]


def test_an_output_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    files.replace(path, "before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        files.replace(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_with_a_bad_file_is_read_without_it(tmp_path):
    store(tmp_path / "good.csv", {})
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    frame = stored.read([str(tmp_path)])
    assert len(frame) == 1
    (notice,) = frame.attrs["notices"]
    assert "bad.csv, line 1" in notice
    with pytest.raises(reader.BadFile, match="is missing"):
        stored.read([str(tmp_path / "bad.csv")])


def test_identical_figures_of_several_runs_are_one_run(tmp_path):
    times = {"mean_s": 1.1e-3, "stddev_s": 1.23456e-5}
    path = store(tmp_path / "a.csv", *({"run_id": f"r{n}", **times} for n in range(5)))
    frame = stored.read([path])
    assert len(frame) == 1
    assert "counted once" in frame.attrs["notices"][0]
    path = store(tmp_path / "b.csv", *({"run_id": f"r{n}", **times, "mean_s": n} for n in "123"))
    assert len(stored.read([path])) == 3


def test_names_that_differ_in_case_are_pointed_out(tmp_path):
    path = store(tmp_path / "a.csv", {"params": "a=1;b=2"}, {"params": "b=2;A=1"})
    (notice,) = stored.read([path]).attrs["notices"]
    assert "are two cells" in notice


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000])
def test_deep_nesting_is_no_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"nested|Expecting"):
        files.read_json(tmp_path / "a.json")


WORDS = (
    ["report", "a.csv", "-o", "a.csv"],
    ["export", "a.csv", "--format=go", "-o", "b.csv"],
    ["history", "a.csv", "-o", "a.csv"],
    ["check", "a.csv", "--baseline", "b.csv", "-o", "b.csv"],
    ["check", "a.csv", "--baseline", "b.csv", "--summary", "b.csv"],
)


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words))
def test_no_output_takes_the_place_of_results(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.report.html.page", lambda _: ("a page", []))
    texts = {}
    for name in ("a", "b"):
        path = store(tmp_path / f"{name}.csv", {"run_id": name})
        texts[path] = Path(path).read_bytes()
    done = run_bench(*words)
    assert done.exit_code == 2
    assert "is a result CSV, which is not overwritten" in done.output
    assert {path: Path(path).read_bytes() for path in texts} == texts


def test_a_summary_is_appended_to_any_file(tmp_path):
    path = store(tmp_path / "a.csv", {})
    other = store(tmp_path / "b.csv", {"run_id": "b"})
    summary = tmp_path / "summary"
    summary.write_bytes(b"\xff")
    words = ["check", path, "--baseline", other, "--summary", str(summary)]
    assert run_bench(*words).exit_code == 0
    assert summary.read_bytes().startswith(b"\xff##")


def test_a_folder_with_odd_entries_is_read_without_them(tmp_path):
    """A link to itself was an error of Python's before 3.13."""
    store(tmp_path / "good.csv", {})
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "nowhere.csv").symlink_to("missing")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "fifo.csv")
    frame = stored.read([str(tmp_path)])
    assert len(frame) == 1
    assert len(frame.attrs["notices"]) == 4


@pytest.mark.parametrize("text", ["n", "n=", "n=%FF", "=", ";", "%"])
def test_params_that_are_none_have_a_table_all_the_same(tmp_path, text):
    path = store(tmp_path / "a.csv", {"params": text}, {"params": f"{text};m=1"})
    done = run_bench("compare", path)
    assert done.exit_code == 0, done.output
    assert run_bench("card", path).exit_code == 0
