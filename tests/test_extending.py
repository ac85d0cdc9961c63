"""Each extension in CONTRIBUTING.md works as described there: one change of a registry each."""

import matplotlib.pyplot as plt
import pytest

from bench.exchange import exports
from bench.measure import dtypes
from bench.records.writer import Writer
from bench.report import answers as report
from bench.report import html, plots, sentences
from bench.report.picture import Picture
from bench.verdicts import answers
from bench.verdicts.finding import Finding, Subject
from tests.helpers import frames
from tests.helpers.command import run_bench


def test_a_benchmark_on_a_new_device_in_a_new_dtype(suite, simulated, monkeypatch):
    monkeypatch.setattr(dtypes, "NAMES", (*dtypes.NAMES, "uint16"))
    suite.write("""
    @dtypes("uint16")
    def bench_new(cell):
        cell(torch.clone, torch.ones(4, dtype=cell.dtype))
    """)
    assert suite.run("--dtype", "uint16", "--profile", "smoke").ret == 0
    found = suite.rows()[["benchmark", "device", "dtype", "status"]].to_numpy().tolist()
    assert found == [["new", device, "uint16", "ok"] for device in ("cpu", "sim")]


def test_a_verdict_rule_and_its_words(monkeypatch):
    def slowest(cells):
        yield Finding(topic="slowest", subject=Subject.of(cells[0]))

    faults = (*answers.QUESTIONS["faults"], slowest)
    monkeypatch.setitem(answers.QUESTIONS, "faults", faults)
    monkeypatch.setitem(sentences.WORDS, "slowest", lambda one: f"{one.subject.benchmark} is slow")
    assert "- cat is slow" in report.text(frames.frame({"benchmark": "cat"}))


def test_an_export_format(tmp_path, monkeypatch):
    monkeypatch.setitem(exports.FORMATS, "count", lambda frame: f"{len(frame)} rows")
    writer = Writer(tmp_path / "a.csv")
    writer.append(frames.row())
    writer.close()
    done = run_bench("export", str(writer.path), "--format", "count")
    assert done.output == "1 rows\n"


@pytest.mark.filterwarnings("ignore:No artists")
def test_a_section_of_the_report(monkeypatch):
    def drawn(cells):
        return [Picture("mine", "A section of mine", plt.figure())]

    monkeypatch.setattr(plots, "PICTURES", (*plots.PICTURES, drawn))
    rows = frames.frame({}).assign(file="here.csv")
    rows.attrs["notices"] = []
    page, pictures = html.page(rows)
    assert "A section of mine" in page
    assert [picture.name for picture in pictures][-1] == "mine"
