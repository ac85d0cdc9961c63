"""Loads the suite's plugin where the command line of pytest names benchmarks.

Every run of pytest in an environment with this package imports this module, so it imports no other.
"""

import ast
import os
from collections.abc import Iterable
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load `bench.plugin`, unless ``-p bench.plugin`` has done so."""
    if any(map(_has_benchmarks, _files(args))):
        early_config.pluginmanager.import_plugin("bench.plugin")


def _files(words: Iterable[str]) -> Iterable[Path]:
    """Yield the files that are named, and the ``bench_*.py`` in the folders that are named."""
    for word in words:
        path = Path(word.partition("::")[0])
        if path.suffix == ".py":
            yield path
        elif not word.startswith("-") and os.path.isdir(path):  # `Path` raises for a long -k
            yield from path.glob("bench_*.py")


def _has_benchmarks(path: Path) -> bool:
    try:
        functions = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # pytest says what is wrong with it
        return False
    return any(
        isinstance(one, ast.FunctionDef)
        and one.name.startswith("bench_")
        and [arg.arg for arg in one.args.args[:1]] == ["cell"]
        for one in functions
    )
