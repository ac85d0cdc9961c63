"""The commands of the regression gate: `bench check`, `ab` and `history`; none imports torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bench.cli.common import (
    Files,
    Output,
    Where,
    choose,
    fail,
    give,
    new_folder,
    read,
    run_bar,
    write,
)
from bench.cli.options import DIR, FILE, NAME, PERCENT, SECONDS, N

if TYPE_CHECKING:
    from bench.gate.outcome import Outcome
    from bench.launch.sides import Side

Threshold = Annotated[float | None, PERCENT(help="Slowdown from which a cell fails (3; noisy: 5).")]
Margin = Annotated[float | None, PERCENT(help="Slowdown that the t test allows (1; noisy: 2).")]
Floor = Annotated[float | None, SECONDS(help="Change below which no cell fails (1e-6).")]
MinJudged = Annotated[float | None, PERCENT(help="Share of the cells that must be judged (80).")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Missing cells do not fail.")]
FailOnImprovement = Annotated[
    bool, typer.Option("--fail-on-improvement", help="Faster cells fail too.")
]
Format = Annotated[str, NAME(help="terminal, markdown, github, junit or json.")]
Summary = Annotated[Path | None, FILE("--summary", help="Append the result to FILE as Markdown.")]
Folder = Annotated[Path | None, DIR(help="New folder for the CSVs (ab/<UTC time>).")]
Python = Annotated[
    str | None, typer.Option(metavar="PATH", help="Python or virtual environment of this side.")
]
Env = Annotated[
    list[str] | None,
    typer.Option(metavar="K=V", help="Environment variable of this side; repeatable."),
]
Ref = Annotated[
    str | None, typer.Option(metavar="REF", help="Git ref of the current repository for this side.")
]
Threads = Annotated[int | None, N(min=1, help="Compute threads of this side on the CPU.")]
Runs = Annotated[int, N(min=3, help="Fresh processes per side to confirm changes.")]


def check(
    candidate: Annotated[list[str], typer.Argument(metavar="CANDIDATE.csv", show_default=False)],
    baseline: Annotated[
        list[str],
        typer.Option("--baseline", metavar="BASELINE.csv", help="The results to compare with."),
    ],
    threshold: Threshold = None,
    margin: Margin = None,
    floor: Floor = None,
    min_judged: MinJudged = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Allow the sides to differ in it: cpu, threads, ..."),
    ] = None,
    same_machine: Annotated[
        bool,
        typer.Option("--same-machine", help="Treat unknown hardware as the same on both sides."),
    ] = False,
    allow_missing: AllowMissing = False,
    fail_on_improvement: FailOnImprovement = False,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Time the cells that look changed again; judge only that."),
    ] = False,
    confirm_runs: Runs = 5,
    folder: Folder = None,
    baseline_python: Python = None,
    baseline_env: Env = None,
    baseline_ref: Ref = None,
    candidate_python: Python = None,
    candidate_env: Env = None,
    candidate_ref: Ref = None,
    format: Format = "terminal",
    output: Output = None,
    summary: Summary = None,
) -> None:
    """Compare a candidate with a baseline and fail on a regression.

    Exit status: 0 no regression, 1 regression, 2 bad input, 3 not comparable or not
    enough judged, 4 missing cell.
    """
    import pandas as pd

    from bench.compare.files import alike, copied, paths
    from bench.gate import check, comparable, settings
    from bench.report import gate_outcome

    choose("--format", format, gate_outcome.FORMATS)
    may_vary = [name for item in vary or [] for name in item.split(",")]
    for name in may_vary:
        choose("--vary", name, (*comparable.HARD, *comparable.SOFT))
    how: dict[str, Any] = {
        "allow_missing": allow_missing,
        "fail_on_improvement": fail_on_improvement,
    }
    limits = settings.limits(threshold, margin, floor, min_judged)
    sides = read(baseline, strict=True), read(candidate, strict=True)
    if shared := set(paths(baseline)) & set(paths(candidate)):
        fail(f"--baseline: {min(shared)} is on both sides; give the runs from before the change")
    whole = pd.concat(sides, ignore_index=True)
    timed = whole.assign(again=copied(whole))[len(sides[0]) :].query("status == 'ok'")
    for (copy, _), again in timed.groupby(["file", "run_id"]).again:
        if again.all():
            fail(
                f"{copy}: a run of the baseline under another name; give the runs after the change"
            )
    for line in alike(whole):
        typer.echo(line, err=True)
    outcome = check.check(*sides, limits, may_vary, same_machine=same_machine, **how)
    if confirm and outcome.code != 3:
        from bench.launch import ab

        with run_bar() as bar:
            both = [
                _side(baseline_python, baseline_env, baseline_ref, None, "baseline"),
                _side(candidate_python, candidate_env, candidate_ref, None, "candidate"),
            ]
            plan = ab.Plan(confirm=confirm_runs)
            kept = new_folder(folder, "ab", resumable=False)
            outcome = ab.recheck(
                sides, outcome, both, plan, limits, kept, bar, vary=may_vary, **how
            )
    _finish(outcome, format, output, summary)


def ab(
    context: typer.Context,
    baseline_python: Python = None,
    candidate_python: Python = None,
    baseline_env: Env = None,
    candidate_env: Env = None,
    baseline_ref: Ref = None,
    candidate_ref: Ref = None,
    baseline_threads: Threads = None,
    candidate_threads: Threads = None,
    screen_runs: Annotated[int, N(min=2, help="Fresh processes per side to find changes.")] = 3,
    confirm_runs: Runs = 5,
    order: Annotated[str, NAME(help="Order of the sides: abba or random.")] = "abba",
    folder: Folder = None,
    resume: Annotated[Path | None, DIR(help="Continue the comparison in this folder.")] = None,
    threshold: Threshold = None,
    margin: Margin = None,
    floor: Floor = None,
    min_judged: MinJudged = None,
    allow_missing: AllowMissing = False,
    fail_on_improvement: FailOnImprovement = False,
    format: Format = "terminal",
    output: Output = None,
    summary: Summary = None,
) -> None:
    """Compare two sides on this machine, in processes that alternate.

    Files and folders with your own benchmarks replace the suite. Other options are passed to
    pytest, for example --device, --family and --profile. The exit status is that of bench check.
    """
    from bench.gate import settings
    from bench.launch import ab
    from bench.report import gate_outcome

    choose("--format", format, gate_outcome.FORMATS)
    choose("--order", order, ab.ORDERS)
    with run_bar() as bar:
        limits = settings.limits(threshold, margin, floor, min_judged)
        both = [
            _side(baseline_python, baseline_env, baseline_ref, baseline_threads, "baseline"),
            _side(candidate_python, candidate_env, candidate_ref, candidate_threads, "candidate"),
        ]
        plan = ab.Plan(tuple(context.args), screen_runs, confirm_runs, order)
        how = {"allow_missing": allow_missing, "fail_on_improvement": fail_on_improvement}
        if resume:
            ab.same(resume, both, plan, limits, how)
        kept = resume or new_folder(folder, "ab")
        if both[0] == both[1]:
            fail(
                f"both sides are {both[0].label}: say what differs with --baseline-python, -env, "
                "-ref or -threads, or --candidate-...; bench doctor --gate shows false alarms"
            )
        outcome = ab.run(both, plan, limits, kept, bar, **how)
        bar.complete()
    _finish(outcome, format, output, summary)


def history(
    files: Files = None,
    where: Where = None,
    threshold: Annotated[float, PERCENT(help="Smallest change to report.")] = 5,
    every: Annotated[
        bool, typer.Option("--all", help="Show cells that did not change too.")
    ] = False,
    format: Annotated[str, NAME(help="terminal, markdown or json.")] = "terminal",
    output: Output = None,
) -> None:
    """Show which cells became slower or faster, and when."""
    from bench.compare import sides
    from bench.gate import history as found
    from bench.gate.settings import number
    from bench.report import history as shown

    choose("--format", format, shown.FORMATS)
    share = number("--threshold", threshold) / 100
    frame = sides.where(read(files), where or [])
    give(shown.FORMATS[format](found.series(frame, share), every), output)


def _finish(outcome: "Outcome", format: str, output: Path | None, summary: Path | None) -> NoReturn:
    """Print or write the outcome, and exit with its status."""
    from bench.report import gate_outcome

    if summary:
        before = summary.read_bytes() if summary.is_file() else b""
        write(summary, before + f"{gate_outcome.markdown(outcome)}\n".encode())
    give(gate_outcome.FORMATS[format](outcome), output)
    raise typer.Exit(outcome.code)


def _side(
    python: str | None, env: list[str] | None, ref: str | None, threads: int | None, name: str
) -> "Side":
    from bench.launch import sides

    return sides.Side(python or "", sides.variables(env, f"--{name}-env"), ref or "", threads)
