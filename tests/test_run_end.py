"""What a run says at its end."""

from pathlib import Path

from bench.report import run_end
from tests.helpers.frames import frame


def test_a_summary_counts_and_names_what_went_wrong():
    table = frame(
        {"benchmark": "cat"},
        {"benchmark": "neg", "status": "wrong", "reason": "off by 1", "params": "dim=0;n=4"},
        {"benchmark": "add", "status": "unstable", "reason": "the CPU ran 1.5 times slower"},
        {"benchmark": "sum", "status": "unstable", "reason": "something else"},
    )
    assert run_end.lines(table) == [
        "4 cells: 2 unstable, 1 ok, 1 wrong",
        "wrong: tensors neg cpu float32 dim=0 n=4: off by 1",
        "for example unstable: tensors add cpu float32: the CPU ran 1.5 times slower",
    ]
    assert run_end.lines(table.iloc[:0]) == []
    table = frame(*({"params": f"n={n}", "status": "error", "reason": "x"} for n in range(20)))
    assert run_end.lines(table)[-1] == "... and 8 more; the reasons are in the CSV"


def test_a_run_ends_with_its_first_answers_and_what_to_do_next():
    path = Path("results/mine/a b.csv")
    step = {"family": "training", "benchmark": "step", "items": 64, "params": "batch=64"}
    rows = [
        step | {"dtype": dtype, "median_s": s}
        for dtype, s in (("float32", 2e-3), ("bfloat16", 1e-3))
    ]
    shown = run_end.text(frame(*rows), path)
    assert (
        shown.index("step batch=64")
        < shown.index("What should I use here?")
        < shown.index("Which dtype?")
    )
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.splitlines()[-2:] == [
        "all answers:  bench verdict 'results/mine/a b.csv'",
        "pictures:     bench report 'results/mine/a b.csv' -o report.html",
    ]
    single = run_end.text(frame(step | {"rounds": 1, "iterations": 1}), path)
    assert "What should I use here?" not in single
    assert single.endswith("to time them: the same command without --profile smoke")
