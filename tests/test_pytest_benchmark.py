"""pytest-benchmark's options keep working and mean what its users expect."""

import json

import pytest

#: Each test runs a session of pytest.
pytestmark = pytest.mark.integration

NEG = """
@dtypes("float32")
def bench_neg(cell):
    cell.work(items=4, bytes=32)
    cell(torch.neg, cell.tensor(4))
"""


@pytest.fixture
def neg(suite):
    suite.write(NEG)
    return suite


def test_the_json_holds_the_rounds_of_the_csv(neg):
    neg.run("--benchmark-json", "out.json")
    entry = json.loads((neg.pytester.path / "out.json").read_text())["benchmarks"][0]
    row = neg.rows().iloc[0]
    assert entry["name"] == "bench_neg[cpu-float32]"
    assert entry["stats"]["rounds"] == row.rounds == len(entry["stats"]["data"])
    assert entry["stats"]["iterations"] == row.iterations
    assert entry["stats"]["median"] == pytest.approx(row.median_s)
    assert entry["stats"]["min"] == pytest.approx(row.min_s)
    assert entry["params"] == {"device": "cpu", "dtype": "float32"}
    assert entry["options"]["timer"] == "clock"
    work = {"items": 4, "item_unit": "element", "bytes": 32}
    assert entry["extra_info"].items() >= work.items()


def test_min_rounds_and_max_time(neg):
    neg.run("--benchmark-min-rounds", "33", "--benchmark-max-time=0.0001")
    assert neg.rows().rounds[0] == 33


def test_options_win_over_the_profile(neg):
    neg.run("--profile", "smoke", "--benchmark-min-rounds=7")
    assert neg.rows().rounds[0] == 7


def test_smoke_times_each_cell_once(neg):
    neg.run("--profile", "smoke")
    row = neg.rows().iloc[0]
    assert (row.rounds, row.iterations) == (1, 1)


def test_a_mark_wins_over_the_options_and_keeps_the_clock(suite):
    suite.write("@pytest.mark.benchmark(min_rounds=21, max_time=0.0, timer=None)" + NEG)
    result = suite.run("--benchmark-json", "out.json")
    assert result.ret == 0
    assert suite.rows().rounds[0] == 21


def test_disable_checks_the_answer_and_stores_nothing(neg):
    result = neg.run("--benchmark-disable", only=False)
    result.assert_outcomes(passed=1)
    assert not neg.files()
    result.stdout.no_fnmatch_line("*was not used at all*")


def test_skip_stores_nothing(neg):
    result = neg.run("--benchmark-skip", only=False)
    result.assert_outcomes(skipped=1)
    assert not neg.files()


def test_autosave_and_compare(neg):
    neg.run("--profile", "smoke", "--benchmark-autosave")
    result = neg.run("--profile", "smoke", "--benchmark-compare", "--benchmark-columns=median")
    result.stdout.fnmatch_lines(["*bench_neg?cpu-float32? (NOW)*"])
    result.stdout.fnmatch_lines(["*bench_neg?cpu-float32? (0001*"])


def test_keyword_and_cprofile(neg):
    assert neg.run("-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not neg.files()
    result = neg.run("-k", "neg and float32", "--profile=smoke", "--benchmark-cprofile=tottime")
    result.stdout.fnmatch_lines(["*cProfile*", "*bench_neg?cpu-float32?*", "*torch.neg*"])


def test_another_timer_is_used(neg):
    neg.run("--benchmark-timer=time.process_time", "--benchmark-json", "out.json")
    entry = json.loads((neg.pytester.path / "out.json").read_text())["benchmarks"][0]
    assert entry["options"]["timer"] == "clock"
    assert neg.rows().status[0] in ("ok", "unstable")  # a busy machine decides no test
