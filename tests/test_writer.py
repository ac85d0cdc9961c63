"""The file of a run: made, appended to and replaced whole, by one process at a time."""

import dataclasses
import sys
from datetime import UTC, datetime

import pytest

from bench.records import reader, writer
from tests.helpers.frames import ROW, schema_1, two_rows


@pytest.fixture
def path(tmp_path):
    return two_rows(tmp_path / "here" / "a.csv")


def test_two_runs_of_one_second_get_two_files(tmp_path):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    names = [writer.create(tmp_path, now).path.name for _ in range(3)]
    expected = ["20260102T030405Z.csv", "20260102T030405Z-2.csv", "20260102T030405Z-3.csv"]
    assert names == expected


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(writer.CannotWrite, match=r"^cannot write .*; .*--results$"):
        writer.create(tmp_path / "file" / "x", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_file_without_room_for_its_header_is_not_left_behind(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(writer.CannotWrite, match="cannot append to"):
            writer.Writer(tmp_path / "a.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_file_of_schema_1_is_not_appended_to(path):
    schema_1(path)
    before = path.read_bytes()
    with pytest.raises(writer.CannotWrite, match=r"other columns than those of schema 2; name a"):
        writer.reopen(path)
    assert path.read_bytes() == before


def test_rows_of_this_run_are_replaced_and_others_kept(path):
    other = dataclasses.replace(ROW, run_id="second")
    made = writer.reopen(path)
    made.append(other)
    made.append(dataclasses.replace(other, params="n=9"))
    made.replace([dataclasses.replace(other, median_s=9e-3, reason="a much longer text, ü")])
    made.append(dataclasses.replace(other, params="n=10"))
    made.replace([dataclasses.replace(other, params="n=10", median_s=8e-3)])
    made.replace([dataclasses.replace(other, params="n=9", median_s=-1.0)])  # not valid
    made.close()
    frame = reader.read(path)
    assert frame.run_id.tolist() == [ROW.run_id] * 2 + ["second"] * 3
    assert frame.median_s.tolist()[2:] == [9e-3, ROW.median_s, 8e-3]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_rows_that_cannot_be_replaced_stay(path, monkeypatch):
    made = writer.reopen(path)
    made.append(dataclasses.replace(ROW, run_id="second"))
    before = path.read_bytes()

    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(writer.CannotWrite, match="No space left on device; it keeps the rows"):
        made.replace([dataclasses.replace(ROW, run_id="second", median_s=9e-3)])
    monkeypatch.undo()
    made.close()
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_resumed_file_loses_its_half_line_and_nothing_else(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    made = writer.reopen(path)
    made.append(dataclasses.replace(ROW, params="dim=2;n=16"))
    made.close()
    assert list(reader.read(path).params) == ["dim=0;n=16", "dim=2;n=16"]


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_two_runs_never_write_into_one_file(path, monkeypatch):
    monkeypatch.setattr(writer, "LOCK_S", 0.0)
    first = writer.reopen(path)
    with pytest.raises(writer.CannotWrite, match="another process writes to it; wait until"):
        writer.reopen(path)
    first.close()
    writer.reopen(path).close()


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_a_lock_that_is_released_in_a_moment_is_waited_for(path, monkeypatch):
    """As by the children of a process that was killed."""
    first = writer.reopen(path)
    monkeypatch.setattr(writer.time, "sleep", lambda seconds: first.close())
    writer.reopen(path).close()
