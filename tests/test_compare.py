"""`bench compare`: sides are chosen, differences judged, and other people's text stays text."""

import json
import re
import subprocess
import sys

import pytest

from bench.compare import files, sides
from bench.report import comparison, digest, escape, group_means
from tests.helpers.command import run_bench
from tests.helpers.frames import HOSTILE, frame, store


@pytest.fixture
def two(tmp_path):
    """Two machines: cat is twice as slow on the second, neg equal, add wrong there."""
    here = [
        {"benchmark": "cat", "params": "n=16", "median_s": 1e-3},
        {"benchmark": "cat", "params": "n=4096", "median_s": 2e-3},
        {"benchmark": "neg", "median_s": 5e-6},
        {"benchmark": "add", "median_s": 1e-6},
    ]
    there = [
        {"benchmark": "cat", "params": "n=16", "median_s": 2e-3},
        {"benchmark": "cat", "params": "n=4096", "median_s": 4e-3},
        {"benchmark": "neg", "median_s": 5.1e-6},
        {"benchmark": "add", "median_s": 2e-6, "status": "wrong", "reason": "off"},
    ]
    return (
        store(tmp_path / "a" / "1.csv", *here),
        store(tmp_path / "b" / "1.csv", *({"machine": "there", "run_id": "b"} | r for r in there)),
    )


def run(*words):
    return run_bench("compare", *map(str, words))


def run_report(*words):
    return run_bench("report", *map(str, words))


def test_two_machines_are_set_side_by_side(two):
    shown = run(*two, "--all").output
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    equal = "cpu: a CPU; torch: 2.11.0; torchvision: 0.26.0; python: 3.12.0; threads: 4"
    assert equal in " ".join(lines)
    assert {"device: cpu", "dtype: float32"} <= {*lines}
    assert lines[lines.index("add 1.00 us wrong") - 3 :][:2] == ["here", "(baseline) there"]
    assert lines[lines.index("cat: n") :][:3] == [
        *("cat: n", "16 1.00 ms 2.00 ms 2.0x", "4096 2.00 ms 4.00 ms 2.0x"),
    ]
    assert "neg 5.00 us 5.10 us ~" in lines
    assert "add 1.00 us wrong" in lines
    assert re.fullmatch(r"all 3 1.60 \(1.39 to 1.84\) 2 0", lines[lines.index("") + 5])


def test_a_comparison_begins_with_a_summary_and_shows_what_differs(two):
    shown = run(*two).output
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == "there against here: geometric means and 95 % intervals"
    assert "group cells times as long slower faster" in lines
    assert any(re.fullmatch(r"joining and copies 2 2.0 \(.*\) 2 0", line) for line in lines)
    assert any(re.fullmatch(r"all 3 1.60 \(.*\) 2 0", line) for line in lines)
    assert {"16 1.00 ms 2.00 ms 2.0x", "4096 2.00 ms 4.00 ms 2.0x"} <= {*lines}
    assert "add 1.00 us wrong" in lines  # a fault is a difference
    assert not any(line.startswith("neg") for line in lines)
    assert "1 of 4 rows show no difference, or fewer than two times: --all shows them" in lines
    assert max(map(len, shown.splitlines())) <= 80


def test_what_was_called_once_has_no_difference_and_no_legend(tmp_path):
    once = {"rounds": 1, "iterations": 1}
    rows = [{"dtype": dtype} | once for dtype in ("float32", "float16")]
    lines = run(store(tmp_path / "a.csv", *rows)).output.splitlines()
    assert lines[-1] == "1 of 1 rows show no difference, or fewer than two times: --all shows them"
    assert not any("median" in line or "no row" in line for line in lines)


def test_a_cell_that_a_side_does_not_have_is_no_difference(tmp_path):
    """Such as indices, which have no floating-point dtype."""
    rows = [{"dtype": "float32"}, {"dtype": "float16", "median_s": 1.0}]
    rows.append({"dtype": "int64", "benchmark": "take"})
    shown = run(store(tmp_path / "a.csv", *rows), "--columns", "dtype").output
    assert "cat" in shown
    assert "take" not in shown
    assert "1 of 2 rows" in shown


def test_ctrl_c_is_one_line(two, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sides, "compare", stopped)
    done = run(*two)
    assert (done.exit_code, done.output) == (130, "bench: stopped\n")


def test_a_terminal_has_colours(two):
    made = sides.compare(files.read(two))
    shown = comparison.text(made, comparison.lines(made), colour=True)
    assert "\x1b[31m 2.0x\x1b[0m" in shown
    assert "\x1b[33mwrong\x1b[0m" in shown
    assert "\x1b" not in run(*two).output


def test_folders_and_patterns_are_searched(two, tmp_path):
    whole = files.read([str(tmp_path)])
    assert set(whole.machine) == {"here", "there"}
    assert len(files.paths([str(tmp_path / "*" / "*.csv"), two[0]])) == 2


def test_sorting_and_choosing_rows(two):
    shown = run(*two, "--sort", "ratio", "--top", "1", "--where", "benchmark=neg|cat").output
    assert "cat n=16" in shown
    assert "neg" not in shown
    shown = run(*two, "--only-different").output
    assert "cat" in shown
    assert "neg" not in shown


@pytest.mark.parametrize(
    "words", [["--only-different"], ["--sort", "ratio", "--top", "1"], ["--top", "1"]]
)
@pytest.mark.parametrize(
    ("format_", "mean"),
    [
        ("terminal", r"all +3 +1\.60 \(1\.39 to 1\.84\)"),
        ("markdown", r"there takes 1\.60 \\\(1\.39 to 1\.84\\\) .* mean of 3 of 4 cells"),
    ],
)
def test_the_mean_is_of_all_rows_whichever_are_shown(two, words, format_, mean):
    assert re.search(mean, run(*two, *words, "--format", format_).output)


def test_the_mean_of_a_digest_is_of_all_rows(two, monkeypatch):
    monkeypatch.setattr(digest, "ROWS", 1)
    shown = digest.markdown(files.read(two))
    assert "1 of 4 cells</summary>" in shown
    assert "geometric mean of 3 of 4 cells" in shown


def test_a_mean_is_of_the_cells_that_both_of_its_sides_have():
    times = {"base": {"add": 1, "cat": 1}, "one": {"cat": 2, "neg": 100}, "two": {"add": 4}}
    rows = [
        {"machine": side, "run_id": side, "benchmark": name, "min_s": n, "median_s": n}
        for side, cells in times.items()
        for name, n in cells.items()
    ]
    made = group_means.means(sides.compare(frame(*rows), columns=("machine",), baseline="base"))
    found = {one.side: (one.cells, one.ratio.value) for one in made if one.group == group_means.ALL}
    assert found == {"one": (1, pytest.approx(2)), "two": (1, pytest.approx(4))}


def test_devices_have_means_of_their_own():
    """The GPU of another machine is four times as fast, its CPU twice as slow."""
    rows = [
        {"machine": side, "run_id": side, "device": device, "params": f"n={n}", "median_s": seconds}
        for side, both in (
            ("old", {"cpu": 1e-3, "mps": 1e-3}),
            ("new", {"cpu": 2e-3, "mps": 25e-5}),
        )
        for device, seconds in both.items()
        for n in (1, 2)
    ]
    made = sides.compare(frame(*rows), columns=("machine",), baseline="old")
    found = {one.name: round(one.ratio.value, 2) for one in group_means.means(made)}
    assert found["all on cpu"] == 2
    assert found["all on mps"] == 0.25
    assert "new on mps takes 0.25" in group_means.sentences(made)[1]


@pytest.fixture
def many(tmp_path):
    """Thirteen machines, three cells each."""
    rows = [
        {"machine": f"m{k}", "run_id": f"m{k}", "benchmark": name, "cpu": "a CPU"}
        for k in range(sides.WIDE + 1)
        for name in ("add", "cat", "neg")
    ]
    return store(tmp_path / "x.csv", *rows)


def test_a_table_of_many_machines_shows_the_first_and_counts_them(many):
    shown = run(many).output
    assert "12 of 13 columns are shown; --columns machine shows all" in " ".join(shown.split())
    assert "m11" in shown
    assert "m12" not in shown
    assert "m12" in run(many, "--columns", "machine").output
    assert len(json.loads(run(many, "--format", "json").output)["cells"]) == 39


def test_a_report_of_many_machines_names_those_that_differ(many, tmp_path):
    page = tmp_path / "page.html"
    assert run_report(many, "-o", page).exit_code == 0
    assert "13 machines with a CPU, 4 threads: all alike in 3 cells" in page.read_text()
    assert "all alike in 3 cells" in run_report(many, "--markdown").output
    assert run_report(many, "--png", tmp_path / "x").exit_code == 2


@pytest.mark.parametrize(
    "words", [["--sort", "ratio"], ["--only-different"], ["--top", "2"], ["--format", "csv"]]
)
def test_what_outliers_have_no_use_for_is_refused(many, words):
    done = run(many, "--outliers", *words)
    assert done.exit_code == 2
    assert words[0] in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_columns_can_be_chosen_and_what_differs_besides_is_warned_of(tmp_path):
    rows = [
        {"dtype": dtype, "median_s": seconds, "run_id": run, "torch": torch}
        for run, torch in (("a", "2.10.0"), ("b", "2.11.0"))
        for dtype, seconds in (("float32", 1e-3), ("float16", 9e-3))
    ]
    path = store(tmp_path / "x.csv", *rows)
    shown = run(path, "--columns", "dtype").output
    assert re.search(r"^ +float32\n +\(baseline\) +float16$", shown, re.M)
    assert "9.0x" in shown
    assert "warning: torch differs too and was not asked about: 2.10.0, 2.11.0" in shown
    shown = run(path, "--columns", "dtype", "--rows", "torch", "--baseline", "float16").output
    assert "warning" not in shown
    assert "0.11x" in shown
    assert re.search(
        "^ +torch 2.10.0 *\n? *\\(baseline\\) +torch 2.11.0$", run(path, "--all").output, re.M
    )


def test_what_one_side_does_not_have_is_no_difference_of_the_environment(tmp_path):
    rows = [{}, {"device": "cuda", "driver": "CUDA 13.0", "median_s": 1.0}]
    shown = run(store(tmp_path / "x.csv", *rows), "--columns", "device").output
    assert "1000x" in shown
    assert "driver" not in shown


def test_json_has_null_for_a_bound_that_is_not_known(tmp_path):
    slow = {"machine": "b", "status": "unstable", "ci_high_s": 9.0, "median_s": 3.0}
    path = store(tmp_path / "a.csv", {}, slow | {"run_id": "b"})
    shown = run(path, "--columns", "machine", "--format", "json").output
    made = json.loads(shown, parse_constant=pytest.fail)["cells"][1]
    assert (made["ratio_low"], made["ratio_high"] is None) == (0.0, False)
    shown = run(path, "--columns", "machine", "--baseline", "b", "--format", "json").output
    made = json.loads(shown, parse_constant=pytest.fail)["cells"][0]
    assert made["ratio_high"] is None


def test_several_runs_are_replicates(tmp_path):
    rows = [
        {"machine": m, "run_id": f"{m}{k}", "median_s": s * (1 + 0.001 * k)}
        for m, s in (("a", 1e-3), ("b", 1.08e-3))
        for k in range(5)
    ]
    path = store(tmp_path / "x.csv", *rows)
    made = json.loads(run(path, "--format", "json").output)
    (_, second) = made["cells"]
    assert second["runs"] == 5
    assert second["significant"]  # 8 %, which a single run a side cannot show
    assert second["ratio_low"] < 1.08 < second["ratio_high"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "colour"], "--columns: unknown 'colour'; known: machine, device"),
        (["--baseline", "nobody"], "--baseline 'nobody' matches none of machine: 'here', 'there'"),
        (["--where", "machine"], "--where 'machine': give machine=VALUE, for example of: "),
        (["--where", "machine=x"], "--where 'machine=x': give machine=VALUE, for example of: "),
        (
            ["--where", "colour=red"],
            "--where 'colour=red': unknown 'colour'; known: schema_version",
        ),
        (["--sort", "colour"], "--sort: unknown 'colour'; known: name, ratio"),
        (["--format", "pdf"], "--format: unknown 'pdf'; known: terminal, markdown, csv, json"),
        (["nothing.csv"], "nothing.csv: No such file or directory; give the path of a result CSV"),
        (["*nothing*"], "*nothing*: no CSV there; give result files, folders or patterns"),
    ],
)
def test_bad_input_is_one_line(two, words, message):
    done = run(*two, *words)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_other_peoples_text_stays_text(tmp_path):
    rows = [
        {"benchmark": HOSTILE, "machine": "a"},
        {"benchmark": "=cmd()", "machine": "a"},
        {"benchmark": HOSTILE, "machine": "b", "run_id": "b"},
    ]
    path = tmp_path / "x.csv"
    store(path, *rows)
    for format_ in comparison.FORMATS:
        shown = run(str(path), "--format", format_).output
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    shown = run(str(path), "--format", "markdown").output
    assert "<script>" not in shown
    assert "[x](" not in shown
    assert "@user" not in shown
    body = [line for line in shown.splitlines() if line.startswith("|")]
    # A bar from a file would make a column of its own.
    assert len({line.replace("\\|", "").count("|") for line in body}) == 1
    assert "'=cmd()" in run(str(path), "--format", "csv").output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@github, a@b.de", r"\@&#8203;github, a\@&#8203;b.de"),
        ("x/y#12 and GH-3", r"x/y\#&#8203;12 and GH&#8203;-3"),
        ("www.x.de _www.x.de", r"www&#8203;.x.de \_www&#8203;.x.de"),
        ("http://x.de", r"http\:&#8203;//x.de"),
        ("$a$ $$b$$", "{0}a{0} {0}{0}b{0}{0}".format(r"<span>\$</span>")),
        # What is no link stays as it is, but for Markdown's own escapes.
        ("CPU @ 2.20GHz, C#, HIGH-2, v1.0.0", r"CPU \@ 2.20GHz, C\#, HIGH-2, v1.0.0"),
        ("n=16 dim=-1 50 % 1,024 x", "n=16 dim=-1 50 % 1,024 x"),
    ],
)
def test_github_makes_no_link_mention_or_math(text, shown):
    assert escape.markdown(text) == shown


def test_half_a_last_line_is_reported(two):
    with open(two[0], "ab") as file:
        file.write(b"1,0.1")
    done = run(*two)
    assert done.exit_code == 0
    assert "half a row, left out" in done.output


def test_files_without_a_row_are_refused(tmp_path):
    done = run(store(tmp_path / "x.csv"))
    assert done.exit_code == 2
    assert "no row in any file; run bench first" in done.output


def test_a_time_of_nothing_is_no_time():
    made = sides.compare(
        frame({"median_s": 0.0}, {"median_s": 1.0, "machine": "b"}).assign(file="x")
    )
    statuses = {estimate.status for estimate in made.cells.values()}
    assert statuses == {"unmeasurable", "ok"}


def test_an_interval_beyond_any_number_is_not_shown():
    rows = frame({"ci_low_s": 1e-3, "ci_high_s": 1e308}, {"machine": "b"}).assign(file="x")
    made = sides.compare(rows)
    assert not re.search(r"±\d", comparison.text(made, comparison.lines(made)))


@pytest.mark.integration
def test_reading_commands_do_not_load_torch(two):
    code = (
        "import sys; from bench.cli.main import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "finally: assert 'torch' not in sys.modules"
    )
    for command in ("compare", "verdict"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, *two], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_another_column_is_compared_over_runs(tmp_path):
    """A cold start that takes twice as long, and memory in bytes; a single run has no ratio."""
    paths = []
    for machine, factor in (("here", 1), ("there", 2)):
        rows = [
            {"machine": machine, "run_id": f"{machine}{n}", "median_s": 1e-3}
            | {"first_call_s": factor * (1 + n / 100), "peak_bytes": factor * 2**20}
            for n in range(3)
        ]
        paths.append(store(tmp_path / f"{machine}.csv", *rows))
        store(tmp_path / f"{machine}-1.csv", rows[0])
    (found,) = [
        cell
        for cell in json.loads(run(*paths, "--time", "first_call_s", "--format=json").output)[
            "cells"
        ]
        if not cell["baseline"]
    ]
    assert found["first_call_s"] == pytest.approx(2 * 1.01, rel=1e-3)
    assert found["ratio"] == pytest.approx(2)
    assert found["ratio_low"] < 2 < found["ratio_high"]
    assert found["significant"]
    memory = run(*paths, "--time", "peak_bytes").output
    assert "MiB" in memory
    assert "times as much" in memory
    assert re.search(r"all +1 +2\.0 \(", memory)
    memory = run(*paths, "--time", "peak_bytes", "--format", "markdown").output
    assert re.search(r"there needs 2\.0 \\\(.* times as much as here", memory)
    single = [str(tmp_path / f"{name}-1.csv") for name in ("here", "there")]
    cells = json.loads(run(*single, "--time", "first_call_s", "--format=json").output)["cells"]
    assert [cell["ratio"] for cell in cells] == [None, None]


def test_a_column_without_values_and_an_unknown_one_are_one_line(two):
    assert "--time device_s: no row has a value" in run(*two, "--time", "device_s").output
    assert "--time: unknown 'x'; known: min_s, " in run(*two, "--time", "x").output
    assert "--time: --outliers" in run(*two, "--time", "min_s", "--outliers").output
