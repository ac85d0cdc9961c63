"""The commands that read result files; none imports torch."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import Files, Output, Where, choose, fail, give, read
from bench.cli.options import DIR, FILE, NAME, N
from bench.records.files import replace


def compare(
    files: Files = None,
    columns: Annotated[
        str | None, NAME(help="The sides: machine, device, dtype, torch, ...")
    ] = None,
    rows: Annotated[str | None, NAME(help="Columns that distinguish rows too.")] = None,
    where: Where = None,
    baseline: Annotated[str | None, NAME(help="The side that ratios refer to.")] = None,
    sort: Annotated[str, NAME(help="name, or ratio: the largest change first.")] = "name",
    top: Annotated[int | None, N(min=1, help="Only the first N rows.")] = None,
    only_different: Annotated[
        bool, typer.Option("--only-different", help="Only rows with a difference.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="All rows, not only those that differ.")
    ] = False,
    outliers: Annotated[
        bool, typer.Option("--outliers", help="Find machines that differ from others like them.")
    ] = False,
    same_machine: Annotated[
        bool,
        typer.Option("--same-machine", help="With --outliers: treat unknown hardware as the same."),
    ] = False,
    time: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="The figure to compare: first_call_s, peak_bytes, ..."),
    ] = "median_s",
    format: Annotated[str, NAME(help="terminal, markdown, csv or json.")] = "terminal",
) -> None:
    """Compare machines, devices, dtypes or versions in one table."""
    from bench.compare import outliers as rules
    from bench.compare import sides
    from bench.report import comparison, fit
    from bench.report import outliers as shown

    choose("--sort", sort, comparison.SORTS)
    choose("--format", format, comparison.FORMATS)
    frame = sides.where(read(files, copies=not outliers), where or [])
    if outliers:
        choose("--outliers --format", format, shown.FORMATS)
        unused = {
            **{"--sort": sort != "name", "--only-different": only_different, "--top": top},
            **{"--time": time != "median_s", "--columns": columns, "--rows": rows},
            **{"--baseline": baseline, "--all": all_},
        }
        for option in (name for name, given in unused.items() if given):
            fail(f"{option}: --outliers names every machine that differs; leave it out")
        give(shown.FORMATS[format](rules.find(frame, same_machine)))
        return
    columns_, rows_ = sides.names(columns, "--columns"), sides.names(rows, "--rows")
    made = sides.compare(frame, columns_, rows_, baseline, time)
    if not columns and format in ("terminal", "markdown"):
        made = sides.narrowed(made)
    short = format == "terminal" and not all_ and len(made.sides) > 1
    found = comparison.lines(made, sort, top, only_different or short)
    if format != "terminal":
        give(comparison.FORMATS[format](made, found))
        return
    # https://no-color.org
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    give(comparison.text(made, found, colour))
    if short and not only_different and top is None and len(found) < len(made.rows):
        rest = f"{len(made.rows) - len(found):,} of {len(made.rows):,} rows"
        why = "show no difference, or fewer than two times: --all shows them"
        give(fit.fill(f"{rest} {why}"))


def verdict(
    files: Files = None,
    question: Annotated[
        str | None,
        NAME(
            help="Only this block: use, device, dtype, loading, implementations, faults, quality "
            "or machine."
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every finding, not only the first few.")
    ] = False,
    top: Annotated[int | None, N(min=1, help="Only the first N findings of each kind.")] = None,
    format: Annotated[str, NAME(help="terminal, markdown or json.")] = "terminal",
) -> None:
    """Answer what to use on this machine, question by question."""
    from bench.report import answers

    choose("--format", format, answers.FORMATS)
    if question is not None:
        choose("--question", question, answers.TITLES)
    limit = None if all_ else top or answers.FEW
    give(answers.FORMATS[format](read(files), question, limit))


def card(files: Files = None) -> None:
    """Print the answers as at most 15 lines of Markdown."""
    from bench.report import answers

    give(answers.card(read(files)))


def report(
    files: Files = None,
    output: Annotated[Path | None, FILE("-o", "--output", help="The HTML page.")] = None,
    png: Annotated[Path | None, DIR(help="Write the pictures to DIR as PNG.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a short summary in Markdown.")
    ] = False,
) -> None:
    """Write one HTML page with answers, pictures and all cells."""
    from bench.compare.sides import WIDE
    from bench.report import digest, html

    if not (output or png or markdown):
        fail("nothing to write: give -o report.html, --png DIR or --markdown")
    frame = read(files)
    if png and frame.machine.nunique() > WIDE:
        fail(f"--png: pictures are drawn for up to {WIDE} machines; give fewer files")
    if markdown:
        give(digest.markdown(frame))
    if not (output or png):
        return
    page, pictures = html.page(frame)
    if output:
        give(page, output)
    if png:
        png.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            replace(png / f"{picture.name}.png", picture.png())


def export_results(
    format: Annotated[str, NAME(help="pytest-benchmark, go, bencher, smaller-is-better.")],
    files: Files = None,
    output: Output = None,
) -> None:
    """Convert results to the format of another tool."""
    from bench.exchange import exports

    choose("--format", format, exports.FORMATS)
    give(exports.FORMATS[format](read(files)), output)


def import_results(
    files: Annotated[list[str], typer.Argument(metavar="FILE.json", show_default=False)],
    output: Annotated[Path, FILE("-o", "--output", help="The new CSV.")],
    machine: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Label of the machine that was timed.")
    ] = None,
) -> None:
    """Convert JSON files of pytest-benchmark to one result CSV."""
    from bench.compare import files as stored
    from bench.exchange import imports
    from bench.records.labels import is_label
    from bench.records.lines import why
    from bench.records.writer import CannotWrite, Writer

    if machine is not None and not is_label(machine):
        fail(f"--machine: {machine!r} is no label; use letters, digits, '.', '_' and '-'")
    rows, notices = imports.several(stored.paths(files, "json"), machine)
    for line in notices:
        typer.echo(line, err=True)
    if output.exists():
        fail(f"cannot write {output}: File exists; name another file with -o")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:  # written beside and moved into place, whole or not at all
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".import-") as folder:
            writer = Writer(Path(folder) / output.name)
            for row in rows:
                writer.append(row)
            writer.close()
            writer.path.rename(output)
    except CannotWrite as problem:
        cause = problem.__cause__
        # The message of the writer names options of `bench run`.
        reason = why(cause) if isinstance(cause, OSError) else str(problem)
        fail(f"cannot write {output}: {reason}; name another file with -o")
    typer.echo(f"{len(rows):,} rows in {output}")
