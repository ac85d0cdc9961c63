"""What the commands share: options, files to read and write, and errors in one line."""

import codecs
import errno
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from bench.cli.options import FILE
from bench.records.choices import UserError, unknown
from bench.records.files import replace
from bench.records.lines import has_breaks, printable, why

if TYPE_CHECKING:
    import pandas as pd

    from bench.measure.devices import Device
    from bench.report.progress import RunBar

#: Settings of a command that passes the options it does not know to pytest.
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}
#: Where a run writes its file, unless --results names another folder.
RESULTS = "results"
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE.csv",
        help=f"Result files or folders; default: this machine's runs in {RESULTS}/.",
        show_default=False,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Only these rows; a|b means a or b."),
]
Output = Annotated[
    Path | None, FILE("-o", "--output", help="Write to this file instead of printing.")
]


class Group(TyperGroup):
    """The commands; an error that the user can correct is one line and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            for before, word in itertools.pairwise(["--folder", os.getcwd(), *ctx.args]):
                # Names of files are printed in many places, and a runner of CI reads each line.
                option = word.partition("=")[0] if word.startswith("-") else before
                if has_breaks(word) and option not in ("--baseline-env", "--candidate-env"):
                    fail(f"{word!r}: a name with control characters; rename it")
            return super().invoke(ctx)
        except UserError as problem:
            fail(str(problem), problem.code)
        except KeyboardInterrupt:
            fail("stopped", 130)
        except BrokenPipeError:  # the reader of the output has seen enough
            raise
        except (OSError, MemoryError, RuntimeError) as problem:
            if line := _lacking(problem):
                fail(line)
            raise


def _lacking(problem: Exception) -> str:
    """Return the line on an error of the system; blank for one of this suite."""
    if isinstance(problem, MemoryError):
        return "not enough memory; close programs, or give fewer files"
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"{problem.filename}: {problem.strerror}; correct that, or name another path"
    if getattr(problem, "errno", 0) == errno.EAGAIN or "start new thread" in str(problem):
        return "the system starts no more processes or threads here; raise its limit (ulimit -u)"
    if isinstance(problem, FileNotFoundError):  # torch would end the process, without a reason
        return "the current folder was deleted; change to another one"
    if isinstance(problem, OSError):
        return f"{why(problem)}; correct that, and try again"
    return ""


def fail(message: str, code: int = 2) -> NoReturn:
    """Exit with one line on standard error."""
    typer.echo(f"bench: {printable(message)}", err=True)
    raise typer.Exit(code)


def option_words(**given: Any) -> list[str]:
    """Return the given options as words of a command line, with ``-`` in place of ``_``."""
    several = {n: v if isinstance(v, list) else [v] for n, v in given.items() if v is not None}
    return [f"--{n.replace('_', '-')}={item}" for n, values in several.items() for item in values]


def choose(option: str, value: str, known: Iterable[str]) -> None:
    """Exit with one line if the value of an option is not among the known ones."""
    if fault := unknown([value], known):
        fail(f"{option}: {fault}")


def named_device(name: str) -> "Device":
    """Return a device; exit with one line if this machine lacks it."""
    from bench.measure import devices

    try:
        return devices.find(name)
    except devices.UnknownDevice as problem:
        fail(f"--device: {problem}")


def rows(files: Sequence[str] | None, copies: bool = False, strict: bool = False) -> "pd.DataFrame":
    """Read result files as `compare.files.read`; without any, the runs of this machine.

    Those are the rows in the folder `RESULTS`. If they are of several machines, it is the label of
    this hardware that counts, and torch is imported to make it.
    """
    from bench.compare import files as stored

    if not files and not Path(RESULTS).is_dir():
        raise UserError(
            f"no folder {RESULTS} here; time this machine with bench run --profile quick, "
            "or name result files"
        )
    frame = stored.read(files or [RESULTS], copies, strict)
    machines = frame.machine.unique()
    if files or len(machines) == 1:
        return frame
    from bench.measure import devices, environment

    label = environment.machine_label(environment.current(), devices.accelerators())
    if label not in machines:
        raise UserError(
            f"{RESULTS} has runs of {', '.join(sorted(machines))}, and none of this machine "
            f"({label}); name the files or the folder to read"
        )
    own = frame[frame.machine == label].reset_index(drop=True)
    own.attrs.update(frame.attrs)
    return own


def read(files: Sequence[str] | None, copies: bool = False, strict: bool = False) -> "pd.DataFrame":
    """Return `rows`; print the notices on standard error."""
    frame = rows(files, copies, strict)
    for line in frame.attrs["notices"]:
        typer.echo(printable(line), err=True)
    return frame


def give(text: str, output: Path | None = None) -> None:
    """Write the text to a file, or print it in the encoding of the terminal."""
    from bench.report import fit

    if output:
        write(output, text)
    else:
        typer.echo(fit.encodable(text, sys.stdout.encoding or "utf-8"))


def write(path: Path, content: str | bytes) -> None:
    """Replace a file; exit with one line if it is a result CSV, which nothing may overwrite."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(20).removeprefix(codecs.BOM_UTF8).startswith(b"schema_version,"):
                fail(f"{path} is a result CSV, which is not overwritten; name another file")
    replace(path, content)


def new_folder(folder: Path | None, kind: str, resumable: bool = True) -> Path:
    """Return the folder of a new comparison or fleet; exit with one line if it holds any file."""
    made = folder or Path(kind) / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if made.exists() and (not made.is_dir() or any(made.iterdir())):
        or_else = f", or continue with --resume {made}" if resumable else ""
        fail(f"{made} is not empty; name a new folder{or_else}")
    return made


def run_bar(runs: int = 1) -> "RunBar":
    """Return a progress bar on standard error."""
    from rich.console import Console

    from bench.report.progress import RunBar

    return RunBar(Console(stderr=True), runs)
