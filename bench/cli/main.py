"""The command `bench`, and its commands that run something on this machine."""

import contextlib
import functools
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bench import __version__
from bench.cli import fleet, gate, results, tune
from bench.cli.common import (
    FORWARD,
    RESULTS,
    Group,
    fail,
    give,
    named_device,
    option_words,
    rows,
    run_bar,
)
from bench.cli.options import DIR, FILE, NAME, SECONDS, N
from bench.records.choices import UserError

if TYPE_CHECKING:
    import pandas as pd

# Boxes of help would leave too little of 80 columns for the names of options.
app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"torch-device-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """How fast, and how right, PyTorch is on this machine."""


#: Exit status of a run with a wrong option, and of one whose process was ended from outside.
BAD_INPUT = ENDED = 2
#: Exit status of pytest for a wrong option; the gate's 4 is another matter.
_USAGE_ERROR = 4
#: What help shows where benchmarks of the user may replace the suite.
PATHS = "[OPTIONS] [FILE_OR_FOLDER]..."
Names = Annotated[
    list[str] | None, NAME(show_default=False, help="Only these; repeat it, or give a,b.")
]


@app.command(context_settings=FORWARD, options_metavar=PATHS)
def run(
    context: typer.Context,
    device: Names = None,
    dtype: Names = None,
    family: Names = None,
    k: Annotated[
        str | None, typer.Option("-k", metavar="WORDS", help="Only cells whose id contains WORDS.")
    ] = None,
    profile: Annotated[str | None, NAME(help="smoke, quick, default or full.")] = None,
    threads: Annotated[int | None, N(help="Compute threads on the CPU.")] = None,
    machine: Annotated[str | None, NAME(help="Label of this machine in the results.")] = None,
    results: Annotated[Path | None, DIR(help="Folder for the result CSVs (results).")] = None,
    output: Annotated[Path | None, FILE(help="Write this CSV instead of a new one.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add the runs to the CSV of --output.")
    ] = False,
    resume: Annotated[Path | None, FILE(help="Continue the runs in this CSV.")] = None,
    runs: Annotated[int, N(min=1, help="Fresh processes that write one CSV.")] = 1,
    cell_timeout: Annotated[
        float | None, SECONDS(help="Seconds after which a cell is an error (900).")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print no tables and no answers.")
    ] = False,
) -> None:
    """Time the suite, or your own benchmarks.

    Files and folders with your own benchmarks replace the suite. Other options are passed to
    pytest, for example --budget, --cells and --data-root.
    """
    words = option_words(
        device=device, dtype=dtype, family=family, profile=profile, threads=threads
    )
    words += option_words(machine=machine, results=results, cell_timeout=cell_timeout)
    words += [*(["-k", k] if k else []), *context.args]
    from bench.report import run_end

    _time(words, runs, output, run_end.following if quiet else run_end.text, resume, append)


def _time(
    words: list[str],
    runs: int,
    output: Path | None,
    shown: "Callable[[pd.DataFrame, Path], str]",
    resume: Path | None = None,
    append: bool = False,
) -> NoReturn:
    """Run pytest with these words, each run in a fresh process; print what is `shown` of the CSV.

    It exits with the worst status of the runs.
    """
    from bench.compare import files
    from bench.launch import runner

    with run_bar(runs) as bar:
        code, file = runner.run(words, runs, output, resume, bar, append=append)
        if code in (0, 1):
            bar.complete()
    if code in (runner.STOPPED, ENDED) and file:
        again = option_words(runs=runs if runs > 1 else None) + words
        line = shlex.join(["bench", "run", "--resume", str(file), *again])
        typer.echo(f"stopped; continue with {line}", err=True)
    if file and code != _USAGE_ERROR:
        try:
            give(shown(files.read([str(file)]), file))
        except UserError as problem:  # it ended before its first row
            fail(str(problem), code or 2)
    raise typer.Exit(BAD_INPUT if code == _USAGE_ERROR else code)


@app.command(context_settings=FORWARD, options_metavar="[OPTIONS]")
def model(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A module, or a function that returns one, or (module, inputs).",
        ),
    ],
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="SHAPE", help="An input: 64x3x224x224, 8x128:int64; repeatable."
        ),
    ] = None,
    device: Names = None,
    dtype: Names = None,
    output: Annotated[Path | None, FILE(help="Write this CSV instead of a new one.")] = None,
    runs: Annotated[int, N(min=1, help="Fresh processes that write one CSV.")] = 1,
) -> None:
    """Time a model of yours, as a whole and operator by operator.

    The model is in evaluation mode, on every device and in every dtype. The options of bench run
    apply too.
    """
    words = ["--family=model", f"--model={name}", *option_words(input=shape, device=device)]
    from bench.report import operators

    words += [*option_words(dtype=dtype), *context.args]
    _time(words, runs, output, operators.summary)


@app.command("list", context_settings=FORWARD, options_metavar=PATHS)
def list_cells(context: typer.Context) -> None:
    """List the cells that bench run would time.

    Takes the options, files and folders of bench run.
    """
    from bench.launch import command

    words = command.of(*context.args, "--collect-only", "--quiet")
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    typer.echo(done.stdout, nl=False)
    typer.echo(done.stderr, nl=False, err=True)
    raise typer.Exit(BAD_INPUT if done.returncode == _USAGE_ERROR else done.returncode)


@app.command()
def info() -> None:
    """Print the hardware, the versions and the devices of this machine."""
    from bench.measure import devices, environment
    from bench.report import fit, reasons

    environment.set_threads()
    current = environment.current()
    found = [devices.find(name) for name in devices.names()]
    label = environment.machine_label(current, devices.accelerators())
    rows = {"machine": label, **current.columns()}
    for one in found:
        fault = one.fault()
        seen = f"{one.model or current.cpu} {one.driver}".strip()
        text = f"{seen}: cannot be used: {fault}; {reasons.remedy(fault)}" if fault else seen
        rows[f"device {one.name}"] = text
    if message := devices.unavailable():
        rows["accelerator"] = message
    for name, value in rows.items():
        typer.echo("\n".join(fit.wrap(f"{name:14} {value}", further=15 * " ")))


@app.command()
def doctor(
    device: Annotated[
        list[str] | None, NAME(show_default=False, help="Only this device; repeatable.")
    ] = None,
    processes: Annotated[
        int | None, N(min=0, help="Fresh processes that time the same code (4).")
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help=f"How often bench check is wrong, from runs in {RESULTS}/ or 12 processes.",
        ),
    ] = False,
) -> None:
    """Check whether this machine is fit for measurements.

    Exit status 3 means that it is not.
    """
    from bench.gate import power
    from bench.measure import devices, doctor, environment
    from bench.report import doctor as words
    from bench.report import fit, gate_outcome

    names = [named_device(name).name for name in device or devices.names()]
    fewest, stored = 2 * power.FEWEST, dict.fromkeys(names, power.Stored())
    if gate:
        with contextlib.suppress(UserError):  # no runs of this machine
            own = rows(None)
            stored = {name: power.stored(own, name) for name in names}
    few = gate and any(one.runs < fewest for one in stored.values())
    count = (12 if few else 4) if processes is None else processes
    if few and count < fewest:
        fail(f"--processes {count}: --gate needs {fewest} or more, half of them per side")
    environment.set_threads()
    unfit = 0

    def show(name: str, seen: str, remedy: str, fine: bool) -> None:
        nonlocal unfit
        mark = "unfit" if not fine else "note" if remedy else "ok"
        lines = fit.wrap(f"{mark:6} {name:17} {seen}", further=25 * " ")
        lines += fit.wrap(remedy, first=f"{'':24} -> ", further=28 * " ")
        typer.echo("\n".join(lines))
        unfit += not fine

    def show_finding(one: doctor.Finding) -> None:
        seen = words.seen(one.code, one.figures)
        show(one.name, seen, words.remedy(one.remedies, one.figures), one.fit)

    for finding in doctor.examine(names):
        show_finding(finding)
        names = [n for n in names if (finding.name, finding.code) != (f"device {n}", "unusable")]
    for name in names if count > 1 else ():
        try:
            runs = doctor.fresh_runs(name, count, functools.partial(typer.echo, err=True))
        except doctor.ProbeFailed as problem:
            show_finding(doctor.probe_failed(name, problem))
            continue
        show_finding(doctor.noise(name, runs))
        if gate:
            seen = stored[name].power() or power.of_processes(name, runs)
            source = gate_outcome.source(stored[name], fewest)
            remedy = "" if seen.sharp else "time more runs per side: bench run --runs 8"
            if not seen.honest:
                remedy = "correct the findings above, or raise --threshold"
            show(f"gate {name}", f"{gate_outcome.power(seen)}; {source}", remedy, seen.honest)
    verdict = f"unfit: {unfit} of the above" if unfit else "fit"
    typer.echo(f"\nThis machine is {verdict}.")
    raise typer.Exit(3 if unfit else 0)


app.add_typer(tune.app, name="tune")
app.command("compare")(results.compare)
app.command("verdict")(results.verdict)
app.command("card")(results.card)
app.command("report")(results.report)
app.command("export")(results.export_results)
app.command("import")(results.import_results)
app.command("check")(gate.check)
app.command("ab", context_settings=FORWARD, options_metavar=PATHS)(gate.ab)
app.command("history")(gate.history)
app.command("fleet", context_settings=FORWARD)(fleet.fleet)
