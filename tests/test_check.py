"""`bench check`: its formats say what the gate found, and its settings and errors are plain."""

import json
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from bench.gate.power import Power
from bench.gate.reason import reason
from bench.gate.settings import Limits
from bench.records.writer import Writer
from bench.report import gate_outcome
from tests.helpers.command import run_bench
from tests.helpers.frames import HOSTILE, row
from tests.helpers.gates import CELLS, NEW_WITH, WITH, judged, runs, spoiled


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
    return run_bench("check", *words)


def test_every_format_has_the_regression(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1))
    new = stored("b.csv", runs(seed=2, slow={7: 1.5}))
    for format_ in gate_outcome.FORMATS:
        done = run(new, "--baseline", old, "--format", format_)
        assert done.exit_code == 1, done.output
        assert "n=7" in done.output.replace("\\", "")
    shown = run(new, "--baseline", old, "--format", "github").output
    assert shown.startswith("::error title=bench check::tensors cat cpu float32 n=7 regressed +")
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
    ("text", "message"),
    [
        ("[tool.bench.check]\nspeed = 1\n", "unknown 'speed'; known: threshold, margin"),
        ("[tool.bench.check]\nmargin = 'x'\n", "tool.bench.check.margin is 'x'; give a number"),
        ("[tool.bench]\ncheck = 1\n", "tool.bench.check is not a table"),
        ('[tool]\nbench = "x"\n', "pyproject.toml: tool.bench is not a table"),
        ("tool = 1\n", "pyproject.toml: tool is not a table"),
        ("a = " + "[" * 50_000, "pyproject.toml: nested too deeply"),
        ("[tool.bench.check]\nfloor = nan\n", "tool.bench.check.floor is nan; give a number"),
        ("[tool.bench.check.thresholds]\ncat = inf\n", "thresholds.cat is inf; give a number"),
        ("[tool", "correct the file"),
    ],
)
def test_wrong_settings_are_one_line(stored, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, cells=2))
    (tmp_path / "pyproject.toml").write_text(text)
    done = run(old, "--baseline", old)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_a_copy_of_the_baseline_is_no_candidate(stored):
    old, copy = stored("a.csv", runs(cells=2)), stored("b.csv", runs(cells=2))
    done = run(copy, "--baseline", old)
    assert done.exit_code == 2
    assert "b.csv: a run of the baseline under another name" in done.output


def test_names_that_differ_between_the_sides_in_case_only_are_reported(stored):
    old, new = ([{"params": f"{n}=1"}] for n in "nN")
    text = " ".join(run(stored("b.csv", new), "--baseline", stored("a.csv", old)).output.split())
    assert "N=1' and 'tensors cat cpu float32 n=1' are two cells" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "pdf"], "--format: unknown 'pdf'; known: terminal, markdown"),
        (["--vary", "colour"], "--vary: unknown 'colour'; known: cpu, device_name"),
        (["--baseline", "nothing.csv"], "nothing.csv: No such file"),
    ],
)
def test_bad_input_is_one_line(stored, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, cells=2))
    done = run(old, "--baseline", old, *words)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize("value", ["nan", "inf", "1e6", "-1"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("check", "--threshold"),
        ("check", "--margin"),
        ("check", "--floor"),
        ("ab", "--margin"),
        ("history", "--threshold"),
    ],
)
def test_a_limit_that_lets_everything_pass_is_refused(
    stored, tmp_path, monkeypatch, command, option, value
):
    monkeypatch.chdir(tmp_path)
    old = stored("a.csv", runs(seed=1, cells=2))
    words = {"check": [old, "--baseline", old], "history": [old], "ab": []}[command]
    done = run_bench(command, *words, option, value)
    assert done.exit_code == 2
    (line,) = done.output.strip().splitlines()
    message = (
        f"bench: {option} is {float(value)!r}; give a number, 0 or more and less than 1,000,000"
    )
    assert line == message


def test_junit_is_read_by_another_program(tmp_path):
    junitparser = pytest.importorskip("junitparser", reason="an extra of development")
    old, new = runs(seed=1), runs(seed=2, slow={3: 1.5})
    new = [r for r in new if r["params"] != "n=0"]
    (tmp_path / "out.xml").write_text(gate_outcome.junit(judged(old, new)), encoding="utf-8")
    (found,) = junitparser.JUnitXml.fromfile(str(tmp_path / "out.xml"))
    kinds = {type(result).__name__ for case in found for result in case.result}
    assert {"Failure", "Error"} <= kinds <= {"Failure", "Error", "Skipped"}
    assert (found.tests, found.failures, found.errors) == (CELLS, 1, 1)
    assert found.tests == len(list(found))


def test_markdown_renders_as_a_heading_a_table_and_folded_details():
    old, new = runs(seed=1), runs(seed=2, slow={3: 1.5})
    page = MarkdownIt("gfm-like", {"linkify": False}).render(
        gate_outcome.markdown(judged(old, new))
    )
    assert page.startswith("<h3>❌ a cell has regressed: 1 regressed, ")
    assert page.count("<table>") == 2
    assert "<td>regressed</td>" in page[: page.index("<details>")]
    assert page.rstrip().endswith("</details>")


def kinds(outcome):
    """The cases of each kind that a reader of JUnit finds."""
    suite = ElementTree.fromstring(gate_outcome.junit(outcome).encode())[0]
    found = [kind.tag for case in suite for kind in case]
    counts = {tag: found.count(tag) for tag in ("failure", "error")}
    assert [suite.get("failures"), suite.get("errors")] == [str(n) for n in counts.values()]
    assert suite.get("skipped") == str(found.count("skipped"))
    return tuple(counts.values())


def loud(outcome):
    return gate_outcome.annotations(outcome).count("::error")


def test_an_improvement_fails_if_asked_to():
    old, new = runs(seed=1, noise=0.001), runs(seed=2, noise=0.001, slow={3: 0.7})
    outcome = judged(old, new)
    assert (outcome.code, loud(outcome), kinds(outcome)) == (0, 0, (0, 0))
    assert gate_outcome.headline(outcome).startswith("fine: 1 improved")
    outcome = judged(old, new, fail_on_improvement=True)
    assert (outcome.code, loud(outcome), kinds(outcome)) == (1, 1, (1, 0))
    assert gate_outcome.headline(outcome).startswith("a cell has improved: 1 improved")


def test_a_cell_that_may_be_missing_fails_nowhere():
    old, new = runs(seed=1, cells=6), runs(seed=2, cells=5)
    outcome = judged(old, new)
    assert (outcome.code, loud(outcome), kinds(outcome)) == (4, 1, (0, 1))
    assert gate_outcome.headline(outcome).startswith("a cell of the baseline is missing: 1 missing")
    outcome = judged(old, new, allow_missing=True)
    assert (outcome.code, loud(outcome), kinds(outcome)) == (0, 0, (0, 0))
    assert gate_outcome.headline(outcome).startswith("fine: 1 missing")
    slow = judged(old, runs(seed=2, cells=5, slow={1: 1.5}), allow_missing=True)
    assert (slow.code, loud(slow), kinds(slow)) == (1, 1, (1, 0))
    assert gate_outcome.headline(slow).startswith("a cell has regressed: 1 regressed, 1 missing")


def test_advice_fails_nowhere():
    new = spoiled(runs(2, seed=2, slow={7: 3.0}, noise=0.001), "oom")
    outcome = judged(runs(2, seed=1, noise=0.001)[:-1], new)
    assert outcome.count("regressed") == outcome.count("errored") == 1
    assert (outcome.code, outcome.failing) == (0, frozenset())
    assert (loud(outcome), kinds(outcome)) == (0, (0, 0))


def test_a_wrong_answer_fails_with_any_number_of_runs():
    outcome = judged(runs(1, seed=1), spoiled(runs(1, seed=2, slow={7: 3.0}), "wrong"))
    assert (outcome.code, loud(outcome), kinds(outcome)) == (1, 1, (0, 1))
    assert gate_outcome.headline(outcome).startswith("a cell has errored: 1 errored, ")


def unstable(rows, share=1.0):
    """The same rows, in which a share of the cells is unstable."""
    return [
        each | {"status": "unstable"} if int(each["params"][2:]) < share * CELLS else each
        for each in rows
    ]


@pytest.mark.parametrize(
    ("share", "head"), [(1.0, "nothing could be judged"), (0.5, "too few cells were judged")]
)
def test_a_gate_that_judged_too_little_does_not_pass(share, head):
    outcome = judged(runs(seed=1), unstable(runs(seed=2), share))
    assert (outcome.code, loud(outcome), kinds(outcome)) == (3, 1, (0, 1))
    assert gate_outcome.headline(outcome).startswith(f"{head}: ")
    judged_ = int(CELLS * (1 - share))
    assert f"{judged_} of 40 cells were judged, but 80% are needed" in gate_outcome.text(outcome)
    assert (
        judged(runs(seed=1), unstable(runs(seed=2), share), limits=Limits(min_judged=0)).code == 0
    )
    # A regression that was found is one, however little else was judged.
    slow = unstable(runs(seed=2, slow={39: 2.0}), 0.5)
    assert judged(runs(seed=1), slow).code == 1


def test_an_inconclusive_cell_that_could_have_shown_a_slowdown_was_judged():
    outcome = judged(runs(3, seed=1, noise=0.03), runs(3, seed=2, noise=0.03))
    assert outcome.count("inconclusive") > 0.2 * CELLS
    assert (outcome.judged, outcome.code) == ((CELLS, CELLS), 0)
    loud_ = judged(runs(3, seed=1, noise=0.3), runs(3, seed=2, noise=0.3))
    assert loud_.code == 3


def test_sides_that_cannot_be_compared_fail_everywhere():
    outcome = judged(runs(seed=1), runs(seed=2, cpu="another"))
    assert (outcome.code, loud(outcome), kinds(outcome)) == (3, CELLS, (0, CELLS))
    assert gate_outcome.headline(outcome).startswith("the two sides cannot be compared: 40 incomp")


@pytest.mark.parametrize("new", [runs(1, cpu="another"), runs(1, cpu="another", dtype="int8")])
def test_sides_that_cannot_be_compared_fail_everywhere_without_times_too(new):
    outcome = judged(runs(1), new)
    assert outcome.code == 3
    assert "::error" in gate_outcome.annotations(outcome)
    suite = ElementTree.fromstring(gate_outcome.junit(outcome)).find("testsuite")
    errors = suite.findall("testcase/error")
    assert int(suite.get("errors")) == len(errors) > 0
    assert int(suite.get("tests")) == len(suite.findall("testcase"))


def test_json_has_what_fails():
    made = json.loads(gate_outcome.as_json(judged(WITH, NEW_WITH, fail_on_improvement=True)))
    assert made["failing"] == ["errored", "improved", "missing", "regressed"]


@pytest.mark.parametrize(
    ("code", "figures", "text"),
    [
        (
            *("undecided", {"change": 0.072, "runs": 6}),
            "a change up to 7% cannot be excluded; about 6 runs per side would decide",
        ),
        ("status of both", {"seen": "oom: {x}"}, "oom: {x} (as in the baseline)"),
        ("gone and refused", {"seen": "no"}, "not there now, and no (in the baseline)"),
        (
            *("differs", {"column": "cpu", "baseline": ("a", "b"), "candidate": ("c",)}),
            "cpu: a, b in the baseline, c now",
        ),
        (
            *("moved", {"device": "cpu", "dtype": "float32", "change": 0.301}),
            "everything on cpu in float32 changed by +30%, and nothing shows whether it was the "
            "machine: compare both sides on one machine with bench ab",
        ),
        (
            *("few runs", {"baseline": 1, "candidate": 2, "fewest": 3}),
            "1 and 2 runs: advice only; the gate judges 3 runs per side (bench run --runs 5)",
        ),
        ("cleared", {}, "the screen found no change"),
    ],
)
def test_a_reason_has_words(code, figures, text):
    assert gate_outcome.words(reason(code, **figures)) == text
    assert gate_outcome.words(None) == ""


def test_the_power_of_the_gate_has_words():
    found = {1.05: 1, 1.10: 9, 1.20: 10}
    assert gate_outcome.power(Power(5, 10, 1, found, found)) == (
        "5 runs per side: false alarms in 10.0% of 10 suites; found +5% in 10%, +10% in 90%, "
        "+20% in 100% of them"
    )


def test_a_shift_and_advice_are_in_the_text():
    moved = judged(runs(seed=1), runs(seed=2, slow=dict.fromkeys(range(CELLS), 1.06)))
    assert "cpu in float32 changed by +" in gate_outcome.text(moved)
    few = judged(runs(2, seed=1), runs(2, seed=2, slow={7: 3.0}))
    assert gate_outcome.headline(few).startswith("advice only")
