"""What the documents show is what the software does."""

import re
from pathlib import Path

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


def test_every_column_and_status_is_documented():
    text = (ROOT / "docs/csv.md").read_text()
    for name in (*schema.COLUMNS, *schema.STATUSES):
        assert f"`{name}`" in text


def test_stored_results_are_valid():
    paths = sorted((ROOT / "results").glob("*/*.csv"))
    assert paths
    for path in paths:
        assert set(reader.read(path).machine) == {path.parent.name}
