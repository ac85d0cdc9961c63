"""The command `bench`: parses, calls, prints, exits."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench import __version__

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
PACKAGE = Path(__file__).parent
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


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


def _pytest(*words: str) -> int:
    """Run pytest on the suite, wherever it is installed and whatever pytest files lie around."""
    settings = ("-c", str(PACKAGE / "suite.ini"), "--rootdir", str(PACKAGE.parent))
    command = [sys.executable, "-m", "pytest", *settings, str(PACKAGE), *words]
    return subprocess.run(command, check=False).returncode


@app.command(context_settings=FORWARD)
def run(context: typer.Context) -> None:
    """Time the suite; takes every option of `pytest bench --benchmark-only`."""
    raise typer.Exit(_pytest("--benchmark-only", *context.args))


@app.command("list", context_settings=FORWARD)
def list_cells(context: typer.Context) -> None:
    """List what would be timed; takes the options of `bench run`."""
    raise typer.Exit(_pytest("--collect-only", "--quiet", *context.args))


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


def main() -> None:
    """Entry point of the command."""
    app(prog_name="bench")
