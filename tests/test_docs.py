"""What the documents show is what the software does."""

import re
from pathlib import Path

import pandas as pd
import pytest
import refresh_tables

from bench.records import reader, schema

ROOT = Path(__file__).parent.parent


def test_the_recipe_of_contributing_works_and_is_under_ten_lines(suite):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert len(code.strip().splitlines()) < 10
    (suite.pytester.path / "bench_it.py").write_text(code)
    result = suite.run("--profile", "smoke")
    assert result.ret == 0
    rows = suite.rows()
    assert (rows.status == "ok").all()
    assert len(rows) >= 6


@pytest.mark.parametrize("path", refresh_tables.PAGES, ids=lambda path: path.name)
def test_the_tables_come_from_a_stored_csv(path):
    text = path.read_text()
    assert "<!-- table of results/" in text
    assert refresh_tables.refreshed(text) == text, "run: python tests/refresh_tables.py"


def test_the_figures_of_the_readme_stand_in_its_table():
    text = (ROOT / "README.md").read_text()
    shown, prose = re.search(r"<!-- table of.*?```text\n(.*?)```(.*?)\n## ", text, re.S).groups()
    figures = re.findall(r"\b\d[\d.]*(?:x\b| (?:ns|us|ms|s)\b)", prose)
    assert len(figures) >= 4
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}", shown), figure


def test_the_noise_the_readme_states_is_that_of_the_stored_runs():
    text = " ".join((ROOT / "README.md").read_text().split())
    stated = re.search(r"is ([\d.]+) times its fastest in the middle, and ([\d.]+)", text)
    # The files are named: a user's own runs come to lie beside them.
    paths = re.search(r"<!-- noise of (.+?) -->", text)[1].split()
    cells = ["benchmark", "device", "dtype", "params"]
    runs = [
        run.query("status == 'ok'").set_index(cells).median_s
        for path in paths
        for _, run in reader.read(ROOT / path).groupby("run_id")
    ]
    medians = pd.concat(runs, axis=1).dropna()
    ratio = medians.max(axis=1) / medians.min(axis=1)
    assert f"{ratio.median():.2f}" == stated[1]
    assert f"{ratio.quantile(0.9):.2f}" == stated[2]


def test_every_column_and_status_is_documented():
    text = (ROOT / "docs/csv.md").read_text()
    for name in (*schema.COLUMNS, *schema.STATUSES):
        assert f"`{name}`" in text


def test_stored_results_are_valid():
    paths = sorted((ROOT / "results").glob("*/*.csv"))
    assert paths
    for path in paths:
        assert set(reader.read(path).machine) == {path.parent.name}
