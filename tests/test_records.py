"""The row, the file, and what the reader refuses."""

import csv
import dataclasses
import os
import sys

import pytest

from bench.records import lines, params, reader, schema, writer
from tests.helpers.frames import ROW, row, schema_1, two_rows

CONTRACT = """
schema_version suite_version run_id run_started machine
os python torch torchvision cpu cpu_count memory_bytes threads device_name driver
family benchmark device dtype params status reason
rounds iterations min_s q1_s median_s q3_s max_s mean_s stddev_s ci_low_s ci_high_s
first_call_s device_s dispatch_s items item_unit bytes flop
rel_error tolerance peak_bytes involuntary_switches drift
stolen slowdown core_s
"""


FIRST = dataclasses.replace(ROW, status="wrong", rel_error=float("inf"))


@pytest.fixture
def path(tmp_path):
    return two_rows(tmp_path / "here" / "a.csv")


def test_schema_2_is_the_contract():
    assert list(schema.COLUMNS) == CONTRACT.split()
    assert (
        *("ok", "unstable", "wrong", "fallback", "unsupported", "oom", "error"),
    ) == schema.STATUSES


def test_a_row_comes_back_as_it_was_written(tmp_path):
    made = writer.Writer(tmp_path / "a.csv")
    made.append(FIRST)
    made.append(dataclasses.replace(ROW, params="dim=1;n=16", drift=-0.1))
    made.close()
    frame = reader.read(made.path)
    assert list(frame.columns) == list(schema.COLUMNS)
    back = frame.iloc[0]
    for name, value in dataclasses.asdict(FIRST).items():
        if value is None:
            assert back[name] == "" if name in schema.TEXTS else frame[name].isna()[0]
        else:
            assert back[name] == value
    assert frame.drift[1] == -0.1
    assert frame["items"][0] == 0  # zero is a value, blank is not


def test_the_file_is_rfc_4180(path):
    raw = path.read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == 3
    raw.decode("utf-8")


def test_params_are_sorted_pairs():
    text = params.join({"n": 16, "dim": 0, "layout": "wide"})
    assert text == "dim=0;layout=wide;n=16"
    assert params.split(text) == {"dim": "0", "layout": "wide", "n": "16"}
    assert params.split("") == {}


@pytest.mark.parametrize("reason", ['a "quoted", one', "two\nlines\r\n", "=1+1", "@x", "ü\x1b[31m"])
def test_reasons_stay_one_harmless_line(tmp_path, reason):
    made = writer.Writer(tmp_path / "a.csv")
    made.append(dataclasses.replace(ROW, status="error", reason=reason))
    made.close()
    stored = reader.read(made.path).reason[0]
    assert "\n" not in stored
    assert not stored.startswith(("=", "@"))
    assert stored.lstrip("'").split()[0] in reason


def test_messages_fit_on_one_line():
    assert lines.one_line("\n\n  a\t b \nsecond") == "a b"
    assert len(lines.one_line("x" * 999)) == 300
    assert lines.of_exception(ValueError("a\nb")) == "ValueError: a b"
    assert lines.of_exception(ValueError()) == "ValueError"
    assert lines.last_line("Traceback\nImportError: x\n") == "ImportError: x"
    assert lines.last_line("", "exit status 3") == "exit status 3"


def edited(path, line, column, value):
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    lines[line - 1][schema.COLUMNS.index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


@pytest.mark.parametrize(
    ("line", "column", "value", "message"),
    [
        (2, "median_s", "fast", "line 2, column median_s: 'fast' is not a number; restore"),
        (3, "rounds", "3.5", "line 3, column rounds: '3.5' is not a number; restore"),
        (2, "median_s", "nan", "line 2, column median_s: 'nan' is not a finite number; restore"),
        (2, "bytes", "-1", "line 2, column bytes: '-1' is negative; restore"),
        (2, "flop", "9" * 30, "line 2, column flop: '999.*' is too large; restore"),
        (3, "status", "fine", "line 3, column status: unknown status 'fine'; it is one of ok, "),
        (2, "machine", "", "line 2, column machine: blank; restore"),
        (2, "median_s", "", "line 2, column median_s: blank in a row with status 'ok'; restore"),
        (2, "schema_version", "3", "line 2, column schema_version: schema 3 is newer .*; install"),
        (2, "schema_version", "", "line 2, column schema_version: blank; restore"),
        (2, "schema_version", "0", "line 2, column schema_version: no schema 0 exists; restore"),
        (
            1,
            "median_s",
            "median",
            "line 1, column median_s: column 'median_s' is missing; ",
        ),
        (3, "params", "dim=0;n=16", "line 2, .*is also in line 3 of the same run; delete"),
    ],
)
def test_a_fault_is_reported_with_file_line_column_and_remedy(path, line, column, value, message):
    edited(path, line, column, value)
    with pytest.raises(reader.BadFile, match=rf"^\S+a\.csv, {message}") as caught:
        reader.read(path, strict=True)
    assert "\n" not in str(caught.value)


def test_the_good_rows_of_a_file_are_read_and_the_others_named(path):
    edited(path, 2, "median_s", "fast")
    frame = reader.read(path)
    assert list(frame.params) == ["dim=1;n=16"]
    assert "line 2, column median_s: 'fast' is not a number" in frame.attrs["notice"]
    assert frame.attrs["notice"].endswith("left out")


def test_a_quote_that_is_not_closed_costs_its_row_alone(path):
    """The rest of the file was one field, and rows that were appended were lost."""
    lines = path.read_text().splitlines()
    damaged = lines[1].replace("float32", '"float32')
    path.write_text("\n".join([lines[0], damaged, *lines[1:], ""]))
    found = reader.read(path)
    assert len(found) == len(lines) - 1
    assert "line 2: unexpected end of data" in found.attrs["notice"]


def test_of_two_rows_of_a_cell_the_last_one_counts(path):
    edited(path, 3, "params", "dim=0;n=16")
    frame = reader.read(path)
    assert list(frame.median_s) == [2e-3]
    assert "line 2" in frame.attrs["notice"]


CONTRADICTIONS = [
    {"min_s": 2e-3},
    {"min_s": 1e-9},
    {"q1_s": 1e-3, "q3_s": 9e-4},
    {"max_s": 1e-3 / 2},
    {"ci_low_s": 3e-3, "ci_high_s": 2e-3},
    {"median_s": 0.0},
    {"median_s": 1e300},
    {"rounds": 0},
    {"iterations": 0},
    {"rel_error": 5.0, "tolerance": 1e-6},
    {"rel_error": float("inf")},
    {"tolerance": 1e9},
    {"run_started": "yesterday"},
]


@pytest.mark.parametrize("columns", CONTRADICTIONS, ids=str)
def test_a_row_that_contradicts_itself_is_neither_written_nor_read(tmp_path, columns):
    made = writer.Writer(tmp_path / "a.csv")
    with pytest.raises(writer.BadRow):
        made.append(row(**columns))
    made.append(row())
    made.close()
    path = tmp_path / "b.csv"
    lines = made.path.read_text().splitlines(keepends=True)
    for name, value in columns.items():
        place = schema.COLUMNS.index(name)
        fields = lines[1].split(",")
        fields[place] = str(value) + ("\r\n" if place == len(schema.COLUMNS) - 1 else "")
        lines[1] = ",".join(fields)
    path.write_text("".join(lines), newline="")
    with pytest.raises(reader.BadFile, match="line 2"):
        reader.read(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"ci_low_s": 4e-4, "ci_high_s": 5e-4},
        {"status": "unstable", "ci_low_s": 1e-4, "ci_high_s": 9e-3},
        {"status": "wrong", "rel_error": 5.0, "tolerance": 1e-6},
        {"status": "unstable", "run_id": "imported-1", "min_s": 2e-3},
        {"run_started": "2026-01-01T00:00:00+02:00"},
    ],
    ids=str,
)
def test_an_interval_below_the_median_and_a_wide_one_are_valid(tmp_path, columns):
    made = writer.Writer(tmp_path / "a.csv")
    made.append(row(**columns))
    made.close()
    assert len(reader.read(made.path, strict=True)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
@pytest.mark.parametrize("name", ["/dev/zero", "fifo", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(reader.BadFile, match=r"regular file|directory"):
        reader.read(tmp_path / name)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"a,b\r\n1,2\r\n", "column 'schema_version' is missing"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"schema_version\r\n" + 9000 * b"9" + b"\r\n", "schema 9{20} is newer"),
        (
            (",".join(schema.COLUMNS) + ',"evil\x1b]0;x\x07\nme"\r\n').encode(),
            r"line 1: unknown column 'evil\\x1b\]0;x\\x07\\nme'; a result",
        ),
        (b"PK\x03\x04\x00\x00", "an Excel workbook: unpack it, or save the sheet as CSV"),
        (b"\x1f\x8b\x08\x00", "packed with gzip: unpack it first"),
        (b"schema_version;suite_version\r\n2;0\r\n", "not separated by commas alone; save it with"),
        (b"sep=,\r\nschema_version,suite_version\r\n", "without a line 'sep='"),
    ],
)
def test_other_files_are_refused(tmp_path, raw, message):
    (tmp_path / "x.csv").write_bytes(raw)
    with pytest.raises(reader.BadFile, match=message):
        reader.read(tmp_path / "x.csv")


def test_blank_lines_and_headers_of_files_put_together_are_no_rows(path):
    first, *rest = path.read_text().splitlines()
    blank = "," * (len(schema.COLUMNS) - 1)
    path.write_text("\n".join([first, rest[0], "", blank, first, *rest[1:], "", ""]))
    frame = reader.read(path, strict=True)
    assert (len(frame), frame.attrs["notice"]) == (2, "")


@pytest.mark.parametrize("quoted", [False, True])
def test_params_of_another_program_are_sorted(path, quoted):
    edited(path, 2, "params", "n=16;dim=0")
    if quoted:  # read field by field
        path.write_text(path.read_text().replace("n=16;dim=0", '"n=16;dim=0"') + "\n")
    assert reader.read(path).params.tolist() == ["dim=0;n=16", "dim=1;n=16"]


def test_machines_may_have_runs_of_one_name(path):
    edited(path, 3, "params", "dim=0;n=16")
    edited(path, 3, "machine", "there")
    assert len(reader.read(path, strict=True)) == 2


def test_a_newer_schema_is_refused_by_name(path):
    lines = path.read_text().splitlines()
    new = [lines[0] + ",colour", "3" + lines[1][1:] + ",blue"]
    path.write_text("\n".join(new) + "\n")
    with pytest.raises(reader.BadFile, match=r"schema 3 is newer than 2.*install a newer version"):
        reader.read(path)


@pytest.mark.parametrize("text", ["", "two\nlines"])
def test_a_file_of_schema_1_is_read_with_blanks(path, text):
    more = writer.Writer(path.with_name("b.csv"))
    more.append(dataclasses.replace(ROW, stolen=0.25, slowdown=1.5, core_s=8e-6))
    more.close()
    schema_1(path)
    if text:  # a field of several lines is read field by field
        path.write_text(path.read_text().replace("here", f'"{text}"'))
    frame = reader.read_all([path, more.path])
    assert frame.schema_version.tolist() == [1, 1, 2]
    assert frame.stolen.isna().tolist() == [True, True, False]
    assert frame.slowdown.tolist()[2] == 1.5


@pytest.mark.integration
def test_half_a_last_line_is_left_out_with_a_notice(path):
    whole = path.read_bytes()
    assert reader.read(path).attrs["notice"] == ""
    start = whole.rstrip().rfind(b"\n") + 1
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        frame = reader.read(path)
        assert len(frame) == 1
        assert "line 3: half a row, left out" in frame.attrs["notice"]


def test_a_short_row_and_a_missing_file_are_refused(path, tmp_path):
    with pytest.raises(reader.BadFile, match="No such file"):
        reader.read(tmp_path / "none.csv")
    whole = path.read_bytes()
    for cut in (8, 30, 90):
        path.write_bytes(whole[:-cut] + b"\r\n")
        with pytest.raises(reader.BadFile, match=r"line 3: \d+ fields where the header has"):
            reader.read(path, strict=True)
    path.write_bytes(whole + b"\r\n" + whole.splitlines(keepends=True)[-1])
    with pytest.raises(reader.BadFile, match=r"line [34]"):
        reader.read(path, strict=True)
