"""The writer writes only what the reader takes: a row that is not valid becomes an error row."""

import pytest

from bench.records import reader
from bench.records.writer import BadRow, Writer
from tests.helpers.frames import row

BAD = {
    "never calls cell": "pass",
    "items is no whole number": "cell.work(items=1.5); cell(torch.neg, cell.tensor(4))",
    "items is negative": "cell.work(items=-1); cell(torch.neg, cell.tensor(4))",
    "flop is too large": "cell.work(flop=2**70); cell(torch.neg, cell.tensor(4))",
    "bytes is a tensor": "cell.work(bytes=cell.tensor(2)); cell(torch.neg, cell.tensor(4))",
}
SOUND = {
    "numpy number": "cell.work(items=np.int64(4)); cell(torch.neg, cell.tensor(4))",
    "long note": "cell.note('x' * 12_000); cell(torch.neg, cell.tensor(4))",
    "strange text": "cell.note('a\\ud800\\x00\\nb'); cell(torch.neg, cell.tensor(4))",
}


def times(suite, body):
    other = "def bench_other(cell):\n    cell(torch.neg, cell.tensor(4))\n"
    suite.write(f"import numpy as np\n\ndef bench_it(cell):\n    {body}\n\n{other}")
    done = suite.run("--profile=smoke", "--dtype=float32")
    frame = suite.rows().set_index("benchmark")
    assert list(frame.index) == ["it", "other"]
    assert frame.status["other"] == "ok"
    return done, frame.loc["it"]


@pytest.mark.integration
@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_not_valid_is_an_error_row(suite, name):
    done, found = times(suite, BAD[name])
    assert found.status == "error"
    assert found.reason
    assert done.ret == 1


@pytest.mark.integration
@pytest.mark.parametrize("name", SOUND)
def test_other_values_are_written(suite, name):
    done, found = times(suite, SOUND[name])
    assert found.status == "ok", found.reason
    assert done.ret == 0


def test_an_exception_with_a_lone_surrogate_is_an_error_row(suite):
    _, found = times(suite, "raise ValueError('a\\ud800b')")
    assert found.status == "error"
    assert found.reason == "ValueError: a?b"


@pytest.mark.parametrize(
    "columns",
    [{"median_s": None}, {"median_s": -1.0}, {"items": 1.5}, {"status": "fine"}, {"machine": ""}],
)
def test_the_writer_refuses_what_the_reader_would(tmp_path, columns):
    writer = Writer(tmp_path / "x.csv")
    writer.append(row())
    with pytest.raises(BadRow):
        writer.append(row(benchmark="other", **columns))
    writer.close()
    assert len(reader.read(tmp_path / "x.csv")) == 1


def test_a_cell_has_one_row_in_a_run(tmp_path):
    writer = Writer(tmp_path / "x.csv")
    writer.append(row())
    writer.append(row(benchmark="other"))
    with pytest.raises(BadRow, match="already"):
        writer.append(row(median_s=2.0))
    writer.append(row(run_id="b"))
    assert len(reader.read(tmp_path / "x.csv")) == 3
