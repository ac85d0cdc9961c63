"""The documents show what the software does."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.records import reader, schema
from tests import refresh_tables

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


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
    assert "```text" in text
    assert refresh_tables.refreshed(text) == text, "run: python tests/refresh_tables.py"


def test_the_figures_about_the_machine_are_in_its_table():
    text = (ROOT / "docs" / "results.md").read_text()
    prose, shown = re.search(
        r"## What this machine shows(.*?)\n## All cells(.*)", text, re.S
    ).groups()
    figures = re.findall(r"\b\d[\d.]*(?:x\b| (?:ns|us|ms|s)\b)", prose)
    assert len(figures) >= 4
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}", shown), figure


def stored_runs(kind):
    """Return the README in one line, and the stored rows that its statement of a kind names."""
    text = " ".join((ROOT / "README.md").read_text().split())
    return text, reader.read(ROOT / re.search(rf"<!-- {kind} of (\S+) -->", text)[1])


def test_the_noise_the_readme_states_is_that_of_the_stored_runs():
    text, rows = stored_runs("noise")
    stated = re.search(r"is ([\d.]+) times its fastest for half of the cells, and ([\d.]+)", text)
    cells = list(schema.CELL)
    runs = [
        run.query("status == 'ok'").set_index(cells).median_s for _, run in rows.groupby("run_id")
    ]
    medians = pd.concat(runs, axis=1).dropna()
    ratio = medians.max(axis=1) / medians.min(axis=1)
    assert f"{ratio.median():.2f}" == stated[1]
    assert f"{ratio.quantile(0.9):.2f}" == stated[2]


def test_the_duration_the_readme_states_is_that_of_the_stored_runs():
    text, rows = stored_runs("duration")
    minutes, cells = re.search(r"took about ([\d.]+) minutes for (\d+) cells", text).groups()
    starts = pd.to_datetime(rows.run_started.drop_duplicates()).sort_values()
    assert f"{starts.diff().dt.total_seconds().mean() / 60:.1f}" == minutes
    assert str(rows.groupby("run_id").size().max()) == cells


@pytest.mark.integration
@pytest.mark.parametrize(
    ("page", "kind"),
    [("README.md", "github-workflows"), ("docs/ci.md", "gitlab-ci")],
)
def test_a_recipe_for_ci_keeps_to_its_schema_and_installs_the_suite(page, kind, tmp_path):
    pytest.importorskip("check_jsonschema", reason="an extra of development")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.S)
    (recipe,) = (block for block in blocks if "bench ab" in block)
    (tmp_path / "recipe.yml").write_text(recipe)
    schema_of = ["--builtin-schema", f"vendor.{kind}", str(tmp_path / "recipe.yml")]
    words = [sys.executable, "-m", "check_jsonschema", *schema_of]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # "pip install ." installs the project of the user instead.
    assert "git+https://github.com/OWNER/torch-device-bench@REF" in recipe
    assert not re.search(r"pip install .*(?<=\s)\.(?:\s|$)", recipe)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)", found.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{target}#{anchor}"


def test_each_fact_about_accelerators_names_tests_that_exist():
    text = (ROOT / "docs/accelerators.md").read_text()
    (table,) = re.findall(r"\| fact \|.*?\n\| ---.*?\n(.*?)\n\n", text, re.S)
    facts = [line.strip("|").split("|") for line in table.splitlines()]
    assert len(facts) > 20
    for fact, _, tests in facts:
        file, *named = re.findall(r"`(test_\w+(?:\.py)?)`", tests)
        if not file.endswith(".py"):
            file, named = "test_accelerators.py", [file, *named]
        code = (ROOT / "tests" / file).read_text()
        assert all(f"def {name}(" in code for name in named), fact


def test_every_column_and_status_is_documented():
    text = (ROOT / "docs/csv.md").read_text()
    for name in (*schema.COLUMNS, *schema.STATUSES):
        assert f"`{name}`" in text


def test_stored_results_are_valid():
    paths = sorted((ROOT / "results" / "examples").glob("*/*.csv"))
    assert paths
    for path in paths:
        assert set(reader.read(path).machine) == {path.parent.name}
