"""The gate fails on a real slowdown, and on nothing else."""

import json
import random
from xml.etree import ElementTree

import pytest
from frames import row
from markdown_it import MarkdownIt
from test_compare import HOSTILE
from typer.testing import CliRunner

from bench import cli
from bench.compare import gate, replicates
from bench.compare.gate import Limits
from bench.records.reader import frame as to_frame
from bench.records.writer import Writer
from bench.report import judgement

CELLS = 40


def runs(count=5, slow=None, noise=0.02, seed=1, cells=CELLS, **columns):
    """Rows of `count` runs; `slow` maps a cell's number to the factor it is slower by."""
    source = random.Random(seed)
    rows = []
    for run in range(count):
        for number in range(cells):
            true = 1e-4 * (1 + number) * (slow or {}).get(number, 1.0)
            seconds = true * source.lognormvariate(0, noise)
            rows.append(
                {"run_id": f"{seed}-{run}", "params": f"n={number}"}
                | {"min_s": seconds, "median_s": 1.05 * seconds}
                | columns
            )
    return rows


def as_frame(rows):
    import dataclasses

    return to_frame([dataclasses.asdict(row(**columns)) for columns in rows])


def judged(old, new, **settings):
    return gate.check(as_frame(old), as_frame(new), **settings)


def verdicts(outcome, verdict):
    return [cell.key[-1] for cell in outcome.cells if cell.verdict == verdict]


def test_unchanged_code_passes_in_nearly_every_suite():
    """Of 60 suites of 40 unchanged cells, a false alarm in two at most."""
    alarms = 0
    for seed in range(60):
        outcome = judged(runs(seed=2 * seed), runs(seed=2 * seed + 1))
        alarms += outcome.code == 1
        assert outcome.code in (0, 1)
    assert alarms <= 2


@pytest.mark.parametrize(("factor", "share"), [(1.10, 0.85), (1.20, 0.98)])
def test_a_real_slowdown_is_found_and_alone_named(factor, share):
    found = 0
    for seed in range(50):
        outcome = judged(runs(seed=2 * seed), runs(seed=2 * seed + 1, slow={7: factor}))
        named = verdicts(outcome, "regressed")
        found += named == ["n=7"]
    assert found >= share * 50


def test_an_improvement_is_told_and_fails_only_where_asked_to():
    old, new = runs(seed=1), runs(seed=2, slow={3: 0.7})
    assert verdicts(judged(old, new), "improved") == ["n=3"]
    assert judged(old, new).code == 0
    assert judged(old, new, fail_on_improvement=True).code == 1


def test_a_shift_of_the_whole_machine_is_taken_out_and_told():
    old, new = runs(seed=1), runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.06))
    outcome = judged(old, new)
    assert outcome.code == 0
    assert outcome.shifts["cpu", "float32"] == pytest.approx(0.058, abs=0.01)
    assert "cpu in float32 moved by +" in judgement.text(outcome)


def test_a_shift_too_large_is_incomparable():
    outcome = judged(runs(seed=1), runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.3)))
    assert outcome.code == 3
    assert outcome.count("incomparable") == CELLS
    assert any("everything on cpu in float32 moved by +" in note for note in outcome.notes)


def test_missing_new_errored_and_unstable_cells_have_their_verdicts():
    old = runs(seed=1, cells=6)
    new = [r for r in runs(seed=2, cells=7) if r["params"] != "n=0"]
    for r in new:
        if r["params"] == "n=1":
            r |= {"status": "wrong", "reason": "off by 0.3"}
        if r["params"] == "n=2":
            r |= {"status": "unstable", "reason": "a neighbour"}
    outcome = judged(old, new)
    assert outcome.code == 1
    assert verdicts(outcome, "missing") == ["n=0"]
    assert verdicts(outcome, "errored") == ["n=1"]
    assert verdicts(outcome, "new") == ["n=6"]
    (unstable,) = [c for c in outcome.cells if c.key[-1] == "n=2"]
    assert (unstable.verdict, unstable.reason) == ("inconclusive", "unstable: a neighbour")
    missing = [r for r in runs(seed=2, cells=6) if r["params"] != "n=0"]
    assert judged(old, missing).code == 4
    assert judged(old, missing, allow_missing=True).code == 0


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_runs_only_advise(count):
    outcome = judged(runs(count, seed=1), runs(count, seed=2, slow={7: 3.0}))
    assert outcome.code == 0
    assert any("advice only" in note for note in outcome.notes)
    assert judgement.headline(outcome).startswith("advice only")


@pytest.mark.parametrize("column", ["cpu", "device_name", "threads", "suite_version"])
def test_another_environment_is_incomparable_unless_it_may_vary(column):
    value = 8 if column == "threads" else "another"
    old, new = runs(seed=1), runs(seed=2, **{column: value})
    outcome = judged(old, new)
    assert outcome.code == 3
    assert any(note.startswith(f"{column}: ") for note in outcome.notes)
    assert judged(old, new, vary=[column]).code == 0


def test_another_torch_is_told_and_judged():
    outcome = judged(runs(seed=1), runs(seed=2, torch="2.12.0"))
    assert outcome.code == 0
    assert "torch: 2.11.0 in the baseline, 2.12.0 now" in outcome.notes


def test_noise_that_hides_a_change_is_inconclusive_and_says_how_many_runs_would_tell():
    outcome = judged(runs(3, seed=1, noise=0.2), runs(3, seed=2, noise=0.2))
    cell = next(c for c in outcome.cells if c.verdict == "inconclusive")
    assert "cannot be excluded; about" in cell.reason
    assert outcome.code == 0


def test_a_change_below_the_floor_or_its_own_threshold_passes():
    old, new = runs(seed=1, noise=0.001), runs(seed=2, noise=0.001, slow={0: 1.5})
    assert judged(old, new).code == 1
    assert judged(old, new, limits=Limits(floor_s=1e-3)).code == 0
    assert judged(old, new, limits=Limits(thresholds={"cat": 0.6})).code == 0
    assert judged(old, new, limits=Limits(thresholds={"tensors": 0.6})).code == 0


def test_the_minimum_is_judged_on_the_cpu_and_the_median_elsewhere():
    def on(device):
        old, new = runs(seed=1, device=device), runs(seed=1, device=device)
        for r in new:
            r["run_id"] += "x"
            if r["params"] == "n=3":
                r["median_s"] *= 2
        return judged(old, new).code

    assert on("cpu") == 0
    assert on("cuda") == 1


def test_holm_is_that_of_the_literature():
    assert replicates.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert replicates.holm([]) == []


def test_runs_without_any_noise_are_judged_too():
    old, new = runs(seed=1, noise=0.0), runs(seed=2, noise=0.0, slow={2: 1.2})
    assert verdicts(judged(old, new), "regressed") == ["n=2"]


@pytest.fixture
def stored(tmp_path):
    def store(name, rows):
        writer = Writer(tmp_path / name)
        for columns in rows:
            writer.append(row(**columns))
        writer.close()
        return str(tmp_path / name)

    return store


def run(*words):
    return CliRunner().invoke(cli.app, ["check", *words])


def test_every_format_tells_the_regression(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1))
    new = stored("b.csv", runs(seed=2, slow={7: 1.5}))
    for format_ in judgement.FORMATS:
        done = run(new, "--baseline", old, "--format", format_)
        assert done.exit_code == 1, done.output
        assert "n=7" in done.output.replace("\\", "")
    shown = run(new, "--baseline", old, "--format", "github").output
    assert shown.startswith("::error title=bench check::cat cpu float32 n=7 regressed +")
    made = json.loads(run(new, "--baseline", old, "--format", "json").output)
    assert made["code"] == 1
    assert made["cells"][0]["params"] == "n=7"
    out = tmp_path / "junit.xml"
    run(new, "--baseline", old, "--format", "junit", "-o", str(out))
    suite = ElementTree.parse(out).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == (str(CELLS), "1")
    assert suite.find("testcase/failure").get("message").startswith("regressed +")


def test_hostile_names_stay_text(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, cells=3, benchmark=HOSTILE))
    new = stored("b.csv", runs(seed=2, cells=3, benchmark=HOSTILE, slow={1: 2.0}))
    shown = run(new, "--baseline", old, "--format", "markdown").output
    assert "<script>" not in shown
    xml = run(new, "--baseline", old, "--format", "junit").output
    assert ElementTree.fromstring(xml.encode()).find("testsuite") is not None


def test_settings_come_from_pyproject_and_options_win(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, noise=0.001))
    new = stored("b.csv", runs(seed=2, noise=0.001, slow={7: 1.2}))
    assert run(new, "--baseline", old).exit_code == 1
    settings = tmp_path / "pyproject.toml"
    settings.write_text("[tool.bench.check]\nthreshold = 30\n")
    assert run(new, "--baseline", old).exit_code == 0
    assert run(new, "--baseline", old, "--threshold", "5").exit_code == 1
    settings.write_text("[tool.bench.check.thresholds]\ncat = 30\n")
    assert run(new, "--baseline", old).exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.bench.check]\nspeed = 1\n", "unknown setting 'speed'; known: threshold, margin"),
        ("[tool.bench.check]\nmargin = 'x'\n", "tool.bench.check.margin is 'x'; give a number"),
        ("[tool.bench]\ncheck = 1\n", "tool.bench.check is no table"),
        ("[tool", "mend the file"),
    ],
)
def test_wrong_settings_are_one_line(stored, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, cells=2))
    (tmp_path / "pyproject.toml").write_text(text)
    done = run(old, "--baseline", old)
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "pdf"], "--format: unknown 'pdf'; known: terminal, markdown"),
        (["--vary", "colour"], "--vary: unknown 'colour'; known: cpu, device_name"),
        (["--baseline", "nothing.csv"], "nothing.csv: No such file"),
    ],
)
def test_bad_input_is_one_line(stored, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, cells=2))
    done = run(old, "--baseline", old, *words)
    assert done.exit_code == 2
    assert said in done.output


def test_junit_is_read_by_another_program(tmp_path):
    junitparser = pytest.importorskip("junitparser", reason="an extra of development")
    old, new = runs(seed=1), runs(seed=2, slow={3: 1.5})
    new = [r for r in new if r["params"] != "n=0"]
    (tmp_path / "out.xml").write_text(judgement.junit(judged(old, new)), encoding="utf-8")
    (found,) = junitparser.JUnitXml.fromfile(str(tmp_path / "out.xml"))
    kinds = {type(result).__name__ for case in found for result in case.result}
    assert {"Failure", "Error"} <= kinds <= {"Failure", "Error", "Skipped"}
    assert (found.tests, found.failures, found.errors) == (CELLS, 1, 1)
    assert found.tests == len(list(found))


def test_markdown_renders_as_a_heading_a_table_and_folded_details():
    old, new = runs(seed=1), runs(seed=2, slow={3: 1.5})
    page = MarkdownIt("gfm-like", {"linkify": False}).render(judgement.markdown(judged(old, new)))
    assert page.startswith("<h3>❌ a cell has regressed or errored: 1 regressed, ")
    assert page.count("<table>") == 2
    assert "<td>regressed</td>" in page[: page.index("<details>")]
    assert page.rstrip().endswith("</details>")


def test_a_flaw_in_one_run_of_many_is_no_less_a_flaw():
    old, new = runs(seed=1, cells=6), runs(seed=2, cells=6)
    flawed = next(r for r in new if r["params"] == "n=2")
    flawed |= {"status": "wrong", "reason": "off by 0.3"}
    outcome = judged(old, new)
    assert outcome.code == 1
    assert verdicts(outcome, "errored") == ["n=2"]
    known = next(r for r in old if r["params"] == "n=2")
    known |= {"status": "wrong", "reason": "off by 0.3"}
    assert judged(old, new).code == 0


def test_a_machine_that_moves_as_a_whole_is_judged_where_its_sides_alternate():
    new = runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.3))
    assert judged(runs(seed=1), new, one_machine=True).count("regressed") == CELLS
