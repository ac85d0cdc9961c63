"""What is printed fits the terminal, and loses nothing by it."""

import re

import pytest
from typer.testing import CliRunner

from bench.cli import main
from bench.report import fit, gate_outcome
from tests.helpers.command import run_bench
from tests.helpers.frames import store
from tests.helpers.gates import judged, runs

#: Of each machine: benchmarks with many params, long names and faults.
CELLS = [
    {"benchmark": "optimizer_step", "params": f"implementation={how};optimizer=sgd_momentum"}
    | {"dtype": dtype, "family": "training"}
    for how in ("single_tensor", "foreach", "fused")
    for dtype in ("float32", "bfloat16")
]
CELLS += [
    {
        "benchmark": "a_benchmark_whose_name_takes_half_of_a_line",
        "params": f"n={n};words={40 * 'x'}",
    }
    for n in (16, 4096)
]
CELLS += [{"benchmark": "matmul", "params": "n=64", "status": "oom", "reason": 30 * "memory "}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four machines with long names, of three runs each; the times of each differ."""
    made = tmp_path_factory.mktemp("results")
    for place, machine in enumerate(("nvidia-grace-72c-480gib-h200", "amd-epyc", "m3", "m4-max")):
        rows = [
            {"machine": machine, "torch": f"2.1{place}.0+cu130", "run_id": f"{machine}{run}"}
            | {"run_started": f"2026-01-0{place + 1}T00:0{run}:00Z"}
            | {"median_s": (place + 1) ** 2 * (1e-3 + run * 1e-6), "cpu": "a CPU"}
            | cell
            for run in range(3)
            for cell in CELLS
        ]
        store(made / f"{machine}.csv", *rows)
    return made


COMMANDS = {
    "sides": ["compare", "."],
    "all": ["compare", ".", "--all", "--sort", "ratio"],
    "dtypes": ["compare", "m3.csv", "--columns", "dtype", "--all"],
    "columns": ["compare", ".", "--columns", "machine,dtype", "--all"],
    "cold": ["compare", "m3.csv", "m4-max.csv", "--columns", "file", "--time", "median_s"],
    "outliers": ["compare", ".", "--outliers"],
    "check": ["check", "m3.csv", "--baseline", "amd-epyc.csv", "--vary", "cpu,threads,torch"],
    "advice": ["check", "m3.csv", "--baseline", "amd-epyc.csv"],
    "history": ["history", ".", "--all"],
    "verdict": ["verdict", "."],
    "every": ["verdict", "m3.csv", "--all"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_a_command_is_wider_than_the_terminal(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    shown = {}
    for width in (80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        done = run_bench(*COMMANDS[command])
        assert done.exit_code in (0, 1, 3), done.output
        shown[width] = done.stdout
        assert max(map(len, done.stdout.splitlines())) <= width
    # A narrow terminal shows the same figures, in other places.
    figures = [sorted(re.findall(r"\d[\d.]* [mu]s ±|[\d.]+x", text)) for text in shown.values()]
    assert figures[0] == figures[1] == figures[2]


def test_columns_that_do_not_fit_follow_in_further_tables():
    rows = [("cat", "dim=0;n=16"), ("cat", "dim=1;n=16"), ("neg", "")]
    columns = {
        "here (baseline)": dict.fromkeys(rows, "1.00 ms ±10%"),
        "there": {rows[0]: "\x1b[31m2.00 ms ±10% 2.0x\x1b[0m", rows[2]: "\x1b[33moom\x1b[0m"},
    }
    wide, narrow = (list(fit.folded(rows, columns, width)) for width in (60, 30))
    assert wide == [
        "                here\n"
        "          (baseline)              there\n"
        "---------------------------------------\n"
        "cat: dim, n\n"
        "  0 16  1.00 ms ±10%  \x1b[31m2.00 ms ±10% 2.0x\x1b[0m\n"
        "  1 16  1.00 ms ±10%\n"
        "neg     1.00 ms ±10%                \x1b[33moom\x1b[0m"
    ]
    assert len(narrow) == 2
    # What has no entry is not in a table, and colours take no room.
    assert narrow[1] == (
        "                    there\n"
        "-------------------------\n"
        "cat: dim, n\n"
        "  0 16  \x1b[31m2.00 ms ±10% 2.0x\x1b[0m\n"
        "neg                   \x1b[33moom\x1b[0m"
    )


def test_the_last_column_of_a_table_wraps():
    rows = [("slower", "+5%", "tensors cat cpu float32 n=16: a reason"), ("same", "-10%", "x")]
    assert fit.table(("verdict", "change", "cell"), rows, 40, right="1") == (
        "verdict  change  cell\n"
        "-------  ------  -----------------------\n"
        "slower      +5%  tensors cat cpu float32\n"
        "                 n=16: a reason\n"
        "same       -10%  x"
    )


def test_the_gate_shows_all_that_needs_a_look_and_some_of_the_rest():
    slow = {0: 2.0}
    unstable = [
        columns | ({"status": "unstable"} if columns["params"] != "n=0" else {})
        for columns in runs(seed=2, slow=slow)
    ]
    outcome = judged(runs(seed=1), unstable)
    lines = gate_outcome.text(outcome).splitlines()
    others = outcome.count("inconclusive")
    assert others > gate_outcome.FEW
    assert sum(line.startswith("regressed ") for line in lines) == outcome.count("regressed") > 0
    assert sum(line.startswith("inconclusive ") for line in lines) == gate_outcome.FEW
    assert f"... and {others - gate_outcome.FEW} more: --format markdown shows all" in lines
    assert gate_outcome.markdown(outcome).count("| inconclusive ") == others


def test_the_gate_counts_missing_cells_beyond_a_few():
    outcome = judged(runs(seed=1), [one for one in runs(seed=2) if one["params"] == "n=0"])
    lines = gate_outcome.text(outcome).splitlines()
    missing = outcome.count("missing")
    assert missing > gate_outcome.FEW
    assert sum(line.startswith("missing ") for line in lines) == gate_outcome.FEW
    assert f"... and {missing - gate_outcome.FEW} more: --format markdown shows all" in lines


def test_a_terminal_without_unicode_shows_other_characters(folder, monkeypatch):
    assert fit.encodable("±3% ▁█ ✅ é 机", "ascii") == "+-3% 18 passed: ? ?"
    assert fit.encodable("±3% ▁█ é", "utf-8") == "±3% ▁█ é"
    monkeypatch.chdir(folder)
    runner = CliRunner(charset="ascii")
    assert "4.00 ms +-1%" in runner.invoke(main.app, ["compare", "amd-epyc.csv", "--all"]).output
    shown = runner.invoke(main.app, ["history", ".", "--all"]).output
    assert re.search(r"^111 +1.00 ms ", shown, re.M)


@pytest.mark.parametrize(
    ("column", "values", "title"),
    [
        ("threads", (2, 1), "threads 1 against threads 2"),
        ("torch", ("2.14.0", "2.15.0"), "torch 2.15.0 against torch 2.14.0"),
        ("python", ("3.11.7", "3.13.0"), "Python 3.13.0 against Python 3.11.7"),
    ],
)
def test_a_side_says_what_its_number_is(tmp_path, column, values, title):
    rows = [{column: value, "run_id": str(value)} for value in values]
    shown = run_bench("compare", store(tmp_path / "x.csv", *rows)).output
    assert shown.startswith(f"{title}: geometric means")


def test_files_are_named_without_the_folders_they_share(tmp_path):
    for name in ("a/x", "b/x"):
        (tmp_path / name).mkdir(parents=True)
    rows = [store(tmp_path / f"{name}/x/1.csv", {"run_id": name}) for name in "ab"]
    shown = run_bench("compare", *rows, "--columns", "file").output
    assert shown.startswith("b/x/1.csv against a/x/1.csv: ")
