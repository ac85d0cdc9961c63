"""The commands that read result files; none imports torch."""

import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def fail(message: str, code: int = 2) -> NoReturn:
    """Exit with one line on standard error."""
    typer.echo(f"bench: {message}", err=True)
    raise typer.Exit(code)


def choose(option: str, value: str, known: Iterable[str]) -> None:
    """Exit with one line if the value of an option is not among the known ones."""
    from bench.records.choices import unknown

    if fault := unknown([value], known):
        fail(f"{option}: {fault}")


Files = Annotated[list[str], typer.Argument(metavar="FILE.csv...", show_default=False)]


def compare(
    files: Files,
    columns: Annotated[
        str | None,
        typer.Option(help="What to compare: machine, device, dtype, torch, ..."),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Columns that split the rows further.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only these rows; a|b means a or b."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The column that ratios refer to.")] = None,
    sort: Annotated[str, typer.Option(help="name, or ratio: the largest change first.")] = "name",
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    only_different: Annotated[bool, typer.Option(help="Only rows with a difference.")] = False,
    outliers: Annotated[
        bool,
        typer.Option(
            "--outliers", help="Find machines that differ from machines of the same kind."
        ),
    ] = False,
    same_machine: Annotated[
        bool,
        typer.Option("--same-machine", help="With --outliers: treat unknown hardware as the same."),
    ] = False,
    time: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help="What to compare instead: first_call_s, peak_bytes, ..."
        ),
    ] = "median_s",
    format: Annotated[str, typer.Option(help="terminal, markdown, csv or json.")] = "terminal",
) -> None:
    """Compare machines, devices, dtypes or versions in one table."""
    from bench.compare import files as stored
    from bench.compare import outliers as rules
    from bench.compare import sides
    from bench.records.reader import BadFile
    from bench.report import comparison
    from bench.report import outliers as shown

    choose("--sort", sort, comparison.SORTS)
    choose("--format", format, comparison.FORMATS)
    try:
        frame = stored.read(files, copies=not outliers)
        notices(frame)
        frame = sides.where(frame, where or [])
        if outliers:
            choose("--outliers --format", format, shown.FORMATS)
            unused = {"--sort": sort != "name", "--only-different": only_different, "--top": top}
            unused["--time"] = time != "median_s"
            for option in (name for name, given in unused.items() if given):
                fail(f"{option}: --outliers names every machine that differs; leave it out")
            show(shown.FORMATS[format](rules.find(frame, same_machine)))
            return
        columns_, rows_ = sides.names(columns, "--columns"), sides.names(rows, "--rows")
        made = sides.compare(frame, columns_, rows_, baseline, time)
    except (BadFile, sides.CannotCompare) as problem:
        fail(str(problem))
    if not columns and format in ("terminal", "markdown"):
        made = sides.narrowed(made)
    found = comparison.lines(made, sort, top, only_different)
    # https://no-color.org
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    write: dict[str, Callable[..., str]] = {
        "terminal": functools.partial(comparison.text, colour=colour),
        "markdown": comparison.markdown,
        "csv": comparison.as_csv,
        "json": comparison.as_json,
    }
    show(write[format](made, found))


def verdict(
    files: Files,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N findings.")] = None,
    format: Annotated[str, typer.Option(help="terminal or markdown.")] = "terminal",
) -> None:
    """Report what to use on this machine, with figures."""
    from bench.report import advice, escape

    choose("--format", format, ("terminal", "markdown"))
    frame = read(files)
    if format == "markdown":
        show(advice.markdown(frame, escape.markdown, top))
    else:
        show(advice.text(frame, top))


def report(
    files: Files,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The HTML file.")] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the pictures to DIR as PNG.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a short summary in Markdown.")
    ] = False,
) -> None:
    """Write one HTML file with verdicts, pictures and all cells; it works offline."""
    from bench.compare.sides import WIDE
    from bench.report import digest, html

    if not (output or png or markdown):
        fail("nothing to write: give -o report.html, --png DIR or --markdown")
    frame = read(files)
    if png and frame.machine.nunique() > WIDE:
        fail(f"--png: pictures are drawn for up to {WIDE} machines; give fewer files")
    if markdown:
        show(digest.markdown(frame))
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
        fail(f"cannot write {problem.filename}: {problem.strerror}; name another place")


def export_results(
    files: Files,
    format: Annotated[str, typer.Option(help="pytest-benchmark, go, bencher, smaller-is-better.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file instead of printing.")
    ] = None,
) -> None:
    """Convert results to the format of another tool."""
    from bench.exchange import exports

    choose("--format", format, exports.FORMATS)
    frame = read(files)
    try:
        text = exports.FORMATS[format](frame)
    except exports.CannotExport as problem:
        fail(str(problem))
    give(text, output)


def import_results(
    files: Annotated[list[str], typer.Argument(metavar="FILE.json...", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The new CSV.")],
    machine: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Label of the machine that was timed.")
    ] = None,
) -> None:
    """Convert JSON files of pytest-benchmark, or folders of them, to one result CSV."""
    from bench.compare import files as stored
    from bench.exchange import imports
    from bench.records.labels import is_label
    from bench.records.reader import BadFile
    from bench.records.writer import CannotWrite, Writer, why

    if machine is not None and not is_label(machine):
        fail(f"--machine: {machine!r} is no label; use letters, digits, '.', '_' and '-'")
    try:
        rows, notices = imports.several(stored.paths(files, "json"), machine)
    except BadFile as problem:
        fail(str(problem))
    for line in notices:
        typer.echo(line, err=True)
    try:
        writer = Writer(output)
    except CannotWrite as problem:
        cause = problem.__cause__
        # The message of the writer names options of `bench run`.
        reason = why(cause) if isinstance(cause, OSError) else str(problem)
        fail(f"cannot write {output}: {reason}; name another file with -o")
    try:
        for row in rows:
            writer.append(row)
    except CannotWrite as problem:
        fail(str(problem))
    writer.close()
    typer.echo(f"{len(rows):,} rows in {output}")


def give(text: str, output: Path | None) -> None:
    """Print the text, or write it to a file."""
    if output is None:
        show(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as problem:
        fail(f"cannot write {output}: {problem.strerror}; name another file")


def read(files: list[str]) -> Any:
    """Read result files; print notices about them on standard error."""
    from bench.compare import files as stored
    from bench.records import reader

    try:
        frame = stored.read(files)
    except reader.BadFile as problem:
        fail(str(problem))
    notices(frame)
    return frame


def notices(frame: Any) -> None:
    """Print what the user should know about these files on standard error."""
    for line in frame.attrs["notices"]:
        typer.echo(line, err=True)


def show(text: str) -> None:
    """Print the text; replace characters that the terminal cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding))


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("compare")(compare)
    app.command("verdict")(verdict)
    app.command("report")(report)
    app.command("export")(export_results)
    app.command("import")(import_results)
