"""The command `bench` in this process."""

from click.testing import Result
from typer.testing import CliRunner

from bench.cli import main


def run_bench(*words: object, **settings) -> Result:
    """Run a command; `settings` are those of CliRunner.invoke."""
    return CliRunner().invoke(main.app, list(map(str, words)), **settings)
