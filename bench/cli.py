"""The command `bench`: parses, calls, prints, exits."""

import functools
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bench import __version__

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}


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


Names = Annotated[list[str] | None, typer.Option(metavar="NAME", show_default=False)]


def _fail(message: str, code: int = 2) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"bench: {message}", err=True)
    raise typer.Exit(code)


def _words(**given: Any) -> list[str]:
    """The options of pytest that were given, by the names they have there."""
    words = []
    for name, value in given.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                words.append(f"--{name}={item}")
    return words


@app.command(context_settings=FORWARD)
def run(
    context: typer.Context,
    device: Names = None,
    dtype: Names = None,
    family: Names = None,
    k: Annotated[
        str | None, typer.Option("-k", metavar="WORDS", help="Cells whose id holds WORDS.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="smoke, default or full.")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads on the CPU.")] = None,
    machine: Annotated[str | None, typer.Option(help="Label of this machine.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of result CSVs.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write this CSV instead.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the runs of this CSV.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Fresh processes, all into one CSV.")] = 1,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No table.")] = False,
) -> None:
    """Time the suite with a progress bar; passes other options on to pytest."""
    from rich.console import Console

    from bench import launch
    from bench.report.bar import Bar

    words = _words(device=device, dtype=dtype, family=family, profile=profile, threads=threads)
    words += _words(machine=machine, results=results) + (["-k", k] if k else [])
    try:
        with Bar(Console(stderr=True), runs) as bar:
            code, file = launch.run([*words, *context.args], runs, output, resume, bar)
            if code in (0, 1):
                bar.ends()
    except launch.CannotRun as problem:
        _fail(str(problem))
    if file and not quiet:
        _show(file)
    raise typer.Exit(code)


def _show(file: Path) -> None:
    """Print the tables of a result file, over all its runs."""
    from bench.compare import runs
    from bench.records import reader
    from bench.report import summary, table

    frame = reader.read(file)
    pooled = runs.pool(frame)
    if len(pooled):
        typer.echo(table.by_dtype(pooled) + "\n")
    for line in summary.lines(pooled):
        typer.echo(line)
    count = frame.run_id.nunique()
    typer.echo(f"{len(frame):,} rows of {count} run{'s' if count > 1 else ''} in {file}")


@app.command("list", context_settings=FORWARD)
def list_cells(context: typer.Context) -> None:
    """List what would be timed; takes the options of `pytest bench`."""
    from bench import launch

    words = launch.command("--collect-only", "--quiet", *context.args)
    raise typer.Exit(subprocess.run(words, check=False).returncode)


@app.command()
def info() -> None:
    """Print what this machine is and has."""
    from bench.measure import devices, environment

    current = environment.current()
    found = [devices.find(name) for name in devices.names()]
    label = environment.machine_label(current, [device for device in found if device.model])
    rows = {"machine": label, **current.columns()}
    rows |= {f"device {d.name}": f"{d.model or current.cpu} {d.driver}".strip() for d in found}
    for name, value in rows.items():
        typer.echo(f"{name:14} {value}")


@app.command()
def doctor(
    device: Names = None,
    processes: Annotated[
        int, typer.Option(min=0, help="Fresh processes of the A/A test; 0 leaves it out.")
    ] = 4,
) -> None:
    """Is this machine fit to measure on? Exit status 0 where it is, 3 where not."""
    from bench.measure import devices, fitness

    try:
        names = [devices.find(name).name for name in device or devices.names()]
    except devices.UnknownDevice as problem:
        _fail(f"--device: {problem}")

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    unfit = 0
    for finding in fitness.examine(names, processes, tell):
        mark = "unfit" if not finding.fit else "note" if finding.remedy else "ok"
        typer.echo(f"{mark:6} {finding.name:17} {finding.seen}")
        if finding.remedy:
            typer.echo(f"{'':24} -> {finding.remedy}")
        unfit += not finding.fit
    verdict = f"unfit: {unfit} of the above" if unfit else "fit"
    typer.echo(f"\nThis machine is {verdict}.")
    raise typer.Exit(3 if unfit else 0)


Files = Annotated[list[str], typer.Argument(metavar="FILE.csv...", show_default=False)]


@app.command()
def compare(
    files: Files,
    columns: Annotated[
        str | None,
        typer.Option(help="What to set side by side: machine, device, dtype, torch, ..."),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="What to add to the rows.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only these rows; a|b for either."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The side that ratios are of.")] = None,
    sort: Annotated[str, typer.Option(help="name, or ratio: the largest change first.")] = "name",
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    only_different: Annotated[bool, typer.Option(help="Only rows with a difference.")] = False,
    format: Annotated[str, typer.Option(help="terminal, markdown, csv or json.")] = "terminal",
) -> None:
    """Set machines, devices, dtypes or versions side by side."""
    from bench.compare import files as stored
    from bench.compare import sides
    from bench.records import reader
    from bench.report import comparison

    for option, value, known in (
        ("--sort", sort, comparison.SORTS),
        ("--format", format, comparison.FORMATS),
    ):
        if value not in known:
            _fail(f"{option}: unknown {value!r}; known: {', '.join(known)}")
    try:
        frame = stored.read(files)
        _notices(frame)
        chosen = sides.where(frame, where or [])
        columns_, rows_ = sides.names(columns, "--columns"), sides.names(rows, "--rows")
        made = sides.compare(chosen, columns_, rows_, baseline)
    except (reader.BadFile, sides.CannotCompare) as problem:
        _fail(str(problem))
    found = comparison.lines(made, sort, top, only_different)
    # https://no-color.org
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    write = {
        "terminal": functools.partial(comparison.text, colour=colour),
        "markdown": comparison.markdown,
        "csv": comparison.as_csv,
        "json": comparison.as_json,
    }[format]
    _print(write(made, found))


@app.command()
def verdict(
    files: Files,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N sentences.")] = None,
    format: Annotated[str, typer.Option(help="terminal or markdown.")] = "terminal",
) -> None:
    """What to use on this machine, in sentences with their figures."""
    from bench.compare import files as stored
    from bench.records import reader
    from bench.report import advice, escape

    if format not in ("terminal", "markdown"):
        _fail(f"--format: unknown {format!r}; known: terminal, markdown")
    try:
        frame = stored.read(files)
    except reader.BadFile as problem:
        _fail(str(problem))
    _notices(frame)
    if format == "markdown":
        _print(advice.markdown(frame, escape.markdown, top))
    else:
        _print(advice.text(frame, top))


@app.command()
def report(
    files: Files,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The HTML file.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the pictures.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Short Markdown for an issue, on standard output.")
    ] = False,
) -> None:
    """One HTML file with verdicts, pictures and every cell; works offline."""
    from bench.compare import files as stored
    from bench.records import reader
    from bench.report import digest, html

    if not (output or png or markdown):
        _fail("nothing to write: give -o report.html, --png DIR or --markdown")
    try:
        frame = stored.read(files)
    except reader.BadFile as problem:
        _fail(str(problem))
    _notices(frame)
    if markdown:
        _print(digest.markdown(frame))
    if not (output or png):
        return
    page, pictures = html.page(frame)
    try:
        if output:
            output.write_text(page, encoding="utf-8")
        if png:
            png.mkdir(parents=True, exist_ok=True)
            for picture in pictures:
                (png / f"{picture.name}.png").write_bytes(picture.png())
    except OSError as problem:
        _fail(f"cannot write {problem.filename}: {problem.strerror}; name another place")


@app.command("export")
def export_results(
    files: Files,
    format: Annotated[str, typer.Option(help="pytest-benchmark, go, bencher, smaller-is-better.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Instead of printing.")
    ] = None,
) -> None:
    """Write results in another tool's format."""
    from bench.compare import files as stored
    from bench.exchange import exports
    from bench.records import reader

    if format not in exports.FORMATS:
        _fail(f"--format: unknown {format!r}; known: {', '.join(exports.FORMATS)}")
    try:
        frame = stored.read(files)
    except reader.BadFile as problem:
        _fail(str(problem))
    _notices(frame)
    text = exports.FORMATS[format](frame)
    if output is None:
        _print(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as problem:
        _fail(f"cannot write {output}: {problem.strerror}; name another file")


@app.command("import")
def import_results(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The CSV to make.")],
) -> None:
    """Read a JSON file of pytest-benchmark into a result CSV."""
    from bench.exchange import imports
    from bench.records.reader import BadFile
    from bench.records.writer import CannotWrite, Writer

    try:
        rows = imports.pytest_benchmark(file)
        writer = Writer(output)
        for row in rows:
            writer.append(row)
    except (BadFile, CannotWrite) as problem:
        _fail(str(problem))
    writer.close()
    typer.echo(f"{len(rows):,} rows in {output}")


def _notices(frame: Any) -> None:
    for notice in frame.attrs["notices"]:
        typer.echo(notice, err=True)


def _print(text: str) -> None:
    """Print, whatever the encoding of the terminal can show."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding))


@app.command()
def tune(
    budget: Annotated[float, typer.Option(min=0, help="Seconds the search may take.")] = 60,
    method: Annotated[str, typer.Option(help="grid, random or bayes (needs Optuna).")] = "grid",
    dataset: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="Your own: what, called, returns a Dataset."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the batches go.")] = "cpu",
    top: Annotated[int, typer.Option(min=1, help="Settings to show.")] = 8,
) -> None:
    """Find this machine's best DataLoader setting."""
    from bench.loading import data, tune
    from bench.measure import devices
    from bench.report import tuning

    if method not in tune.METHODS:
        _fail(f"--method: unknown method {method!r}; known: {', '.join(tune.METHODS)}")
    try:
        on = devices.find(device)
        samples = _called(dataset) if dataset else data.custom_images()
        settings = tune.space(pin=not on.is_host)
        session = tune.sessions(samples, on.torch_device)
        trials = tune.search(settings, session, method, budget)
    except devices.UnknownDevice as problem:
        _fail(f"--device: {problem}")
    except tune.CannotTune as problem:
        _fail(str(problem))
    typer.echo(tuning.text(trials, len(settings), top))


def _called(name: str) -> Any:
    """Call what ``MODULE:NAME`` names."""
    sys.path.insert(0, "")  # as `python -m` has it: a module of the folder one is in
    try:
        return pkgutil.resolve_name(name)()
    except Exception as problem:
        # Whatever the user's own code raises is told in one line.
        _fail(f"--dataset: cannot import {name!r} and call it: {type(problem).__name__}: {problem}")


def main() -> None:
    """Entry point of the command."""
    app(prog_name="bench")
