"""Later visits to the cells of a run: which are visited, what they change, what ends them."""

import itertools

import pytest

from bench.measure import disturbance, visits
from bench.plugin import revisits
from bench.records import checks

#: Each test runs a session of pytest.
pytestmark = pytest.mark.integration

SUITE = """
    import itertools
    calls = itertools.count()

    @dtypes("float32")
    def bench_neg(cell):
        cell(torch.neg, cell.tensor(4))
"""


@pytest.fixture
def clock(monkeypatch):
    """Later visits without pauses, on a clock that advances by 0.1 s at each reading."""
    now = itertools.count(0, 0.1)
    monkeypatch.setattr(revisits, "now_s", lambda: next(now))
    monkeypatch.setattr(revisits, "PAUSE_S", 0.0)
    monkeypatch.setattr(revisits, "NARROW", 1e-9)


@pytest.fixture
def seen(monkeypatch):
    """The names of the cells in the order of their later visits."""
    names, visit = [], revisits.visit

    def noted(timed, run):
        names.append(timed.item.name)
        visit(timed, run)

    monkeypatch.setattr(revisits, "visit", noted)
    return names


def test_cells_are_visited_until_the_budget_is_spent(suite, clock, seen, monkeypatch):
    timed, update = [], revisits.update

    def noted(run, cells):
        timed[:] = cells
        update(run, cells)

    monkeypatch.setattr(revisits, "update", noted)
    suite.write(SUITE)
    result = suite.run("--budget", "5", "--benchmark-json", "out.json", "--junitxml", "out.xml")
    assert result.ret == 0
    (row,) = suite.rows().itertuples()
    assert 2 < len(seen) < 50
    assert [len(one.result.visits) for one in timed] == [1 + len(seen)]
    assert row.status in ("ok", "unstable")  # a busy machine decides no test
    result.stdout.fnmatch_lines(["*1 passed*"])
    assert (suite.pytester.path / "out.xml").read_text().count("<testcase") == 1
    assert (suite.pytester.path / "out.json").read_text().count('"fullname"') == 1


def test_each_later_visit_is_reported_with_the_time_that_is_left(suite, clock, seen, monkeypatch):
    reported, until_spent = [], revisits.until_spent

    def reporting(run, *rest):
        run.visiting = lambda item, left_s: reported.append((item.name, left_s))
        until_spent(run, *rest)

    monkeypatch.setattr(revisits, "until_spent", reporting)
    suite.write(SUITE)
    assert suite.run("--budget", "5").ret == 0
    assert [name for name, _ in reported] == seen
    left = [left_s for _, left_s in reported]
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < left[0] <= 5


@pytest.mark.parametrize(("widest", "least", "most"), [(1e9, 1, 15), (0.0, 16, 100)])
def test_profile_quick_goes_on_for_longer_while_many_cells_are_unstable(
    suite, clock, seen, monkeypatch, widest, least, most
):
    """Of one cell, the budget is 3 s, or 9 s on a busy machine."""
    monkeypatch.setattr(visits, "WIDEST", widest)
    suite.write(SUITE)
    suite.run("--profile", "quick")
    assert least <= len(seen) <= most
    seen.clear()
    suite.run("--profile", "quick", "--budget", "3")
    assert len(seen) <= 15


@pytest.mark.parametrize("words", [["--budget", "0"], ["--profile", "smoke", "--budget", "9"]])
def test_without_a_budget_or_with_single_calls_no_cell_is_visited_again(suite, clock, seen, words):
    suite.write(SUITE)
    assert suite.run(*words).ret == 0
    assert seen == []
    assert len(suite.rows()) == 1


def test_narrow_cells_are_left_alone(suite, clock, seen, monkeypatch):
    monkeypatch.setattr(revisits, "NARROW", 1e9)
    suite.write(SUITE)
    assert suite.run("--budget", "9").ret == 0
    assert seen == []


def test_a_cell_whose_first_visit_looks_quiet_is_visited_once_more(suite, clock, seen, monkeypatch):
    """Something that no reference kernel shows may have disturbed the first visit."""
    monkeypatch.setattr(revisits, "NARROW", 1.02)
    monkeypatch.setattr(visits.Judged, "width_within", 1.0)
    monkeypatch.setattr(disturbance.DisturbanceMonitor, "losses", lambda self: {})
    suite.write(SUITE)
    assert suite.run("--budget", "9").ret == 0
    assert len(seen) == 1


def test_the_widest_interval_comes_first(suite, clock, seen, monkeypatch):
    suite.write(SUITE + SUITE.replace("bench_neg", "bench_abs"))
    monkeypatch.setattr(
        revisits.Timed, "gain", lambda self, losses: float(self.item.originalname == "bench_abs")
    )
    assert suite.run("--budget", "5").ret == 0
    # At the end, the other one may fit into the rest of the budget.
    assert seen.count("bench_abs[cpu-float32]") >= len(seen) - 1 > 1


def test_no_cell_is_visited_while_the_kernels_are_as_slow_as_at_its_best_visit(
    suite, clock, seen, monkeypatch
):
    """A visit would not narrow its interval. It comes when the kernels are quicker."""
    slow = itertools.chain([1e9] * 10, itertools.repeat(1.0))
    looks = []

    def losses(self):
        looks.append(next(slow))
        return {"core": looks[-1]}

    monkeypatch.setattr(disturbance.DisturbanceMonitor, "losses", losses)
    monkeypatch.setattr(revisits, "LOOK_S", 0.0)
    monkeypatch.setattr(revisits, "NARROW", 0.5)
    suite.write(SUITE)
    assert suite.run("--budget", "5").ret == 0
    assert len(looks) >= 10 + len(seen)
    assert seen


@pytest.mark.parametrize(
    ("later", "status"), [("pytest.skip('later')", "unsupported"), ("raise SystemExit(0)", "error")]
)
def test_what_ends_a_later_visit_ends_no_run(suite, clock, seen, later, status):
    """Skips and exits of a later visit ended it with a traceback of pytest."""
    suite.write(f"""
        COUNT = [0]

        @dtypes("float32")
        def bench_neg(cell):
            COUNT[0] += 1
            if COUNT[0] > 1:
                torch.set_default_dtype(torch.float64)
                {later}
            cell(torch.neg, cell.tensor(4))
    """)
    assert suite.run("--budget", "5").ret in (0, 1)
    (row,) = suite.rows().itertuples()
    assert len(seen) == 1
    assert row.status == status
    assert "later" in row.reason or "SystemExit" in row.reason
    assert "restored: default dtype" in row.reason


def test_a_benchmark_with_other_fixtures_is_visited_once(suite, clock, seen):
    """They have been undone, and cannot be made again."""
    suite.write("""
    @dtypes("float32")
    def bench_neg(cell, tmp_path):
        cell(torch.neg, cell.tensor(4))
    """)
    assert suite.run("--budget", "9").ret == 0
    assert seen == []
    assert list(suite.rows().status) == ["ok"]


def test_what_fails_at_a_later_visit_has_failed(suite, clock):
    suite.write("""
    import itertools
    count = itertools.count()

    @dtypes("float32")
    def bench_neg(cell):
        if next(count) == 1:
            raise RuntimeError("broken later")
        cell(torch.neg, cell.tensor(4))
    """)
    suite.run("--budget", "9")
    (row,) = suite.rows().itertuples()
    assert (row.status, row.reason) == ("error", "RuntimeError: broken later")
    assert row.median_s > 0


def test_an_interrupted_run_keeps_what_it_has(suite, clock, monkeypatch):
    def interrupt(timed, run):
        raise KeyboardInterrupt

    monkeypatch.setattr(revisits, "visit", interrupt)
    suite.write(SUITE)
    with pytest.raises(KeyboardInterrupt):
        suite.run("--budget", "9")
    assert list(suite.rows().status) == ["ok"]


@pytest.mark.parametrize(
    ("where", "name", "limit", "reason"),
    [
        (visits, "WIDEST", 1.0, "its time is uncertain: the ends of its interval differ by "),
        # No reader takes such a row as `ok`; as `unstable`, its time is not lost.
        (checks, "MIN_BELOW_MEDIAN", 0.5, "the median of its rounds is "),
    ],
)
def test_a_cell_whose_time_is_uncertain_is_unstable_and_says_why(
    suite, monkeypatch, where, name, limit, reason
):
    monkeypatch.setattr(where, name, limit)
    suite.write(SUITE)
    assert suite.run("--budget", "0").ret == 0
    (row,) = suite.rows().itertuples()
    assert row.status == "unstable"
    assert reason in row.reason
    assert row.ci_low_s < row.median_s <= row.ci_high_s


@pytest.mark.parametrize("value", ["-1", "inf", "nan"])
def test_a_budget_that_is_no_time_is_refused(suite, value):
    suite.write(SUITE)
    result = suite.run("--budget", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --budget: * is not a time in seconds; give 0 or more"])
