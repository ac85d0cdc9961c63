"""A side of a comparison: its Python, environment variables, git ref and threads."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.launch import command
from bench.launch.command import CannotRun
from bench.records.lines import last_line

#: A program that imports what the suite needs.
_ASK = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
_NEEDED = (
    *("numpy", "pandas", "psutil", "torch", "pytest"),
    *("pytest_benchmark", "torchvision", "bench.plugin.options"),
)


@dataclass(frozen=True)
class Side:
    """The settings of one side; an empty one is that of this environment."""

    python: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    ref: str = ""
    threads: int | None = None

    @property
    def given(self) -> bool:
        """Whether any setting is given."""
        return bool(self.python or self.env or self.ref or self.threads)

    @property
    def label(self) -> str:
        """The settings in a few words."""
        words = [self.python, *(f"{name}=..." for name in self.env), self.ref]
        words.append(f"{self.threads} threads" if self.threads else "")
        return ", ".join(filter(None, words)) or "this environment"


def variables(given: list[str] | None, option: str) -> dict[str, str]:
    """Return environment variables from ``K=V`` words; CannotRun for any other word."""
    found = {}
    for word in given or []:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise CannotRun(f"{option}: {word!r} is not NAME=VALUE")
        found[name] = value
    return found


def prepare(side: Side, name: str, folder: Path) -> command.Installation:
    """Prepare a side to run, with its copies in `folder`, which must be empty.

    Another Python runs a copy of this suite, so that both sides time the same code. A git ref is
    checked out from the repository of the current folder; if it holds the suite, that one runs.

    Raises CannotRun, naming the option of side `name`.
    """
    if not side.given:
        return command.HERE
    paths: list[Path] = []
    package = command.PACKAGE
    tree = None
    if side.ref:
        tree = folder / "tree"
        _git(f"--{name}-ref", "worktree", "add", "--detach", "--force", str(tree), side.ref)
        paths.append(tree)
        if (tree / "bench" / "plugin" / "suite.ini").exists():
            package = tree / "bench"
    if (side.python or side.ref) and package == command.PACKAGE:
        # A copy: the folder of this suite may hold the torch of this environment too, or another
        # copy of what the ref holds.
        package = folder / "suite" / "bench"
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(command.PACKAGE, package, ignore=skipped)
    paths.insert(0, package.parent)
    env = dict(side.env)
    before = env.get("PYTHONPATH", os.environ.get("PYTHONPATH"))
    env["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *([before] if before else [])])
    place = command.Installation(_python(side.python, f"--{name}-python"), package, env, tree)
    _probe(place, name)
    return place


def _python(given: str, option: str) -> str:
    """Return the interpreter that the user named by its path, its command or its environment."""
    if not given:
        return sys.executable
    path = Path(given).expanduser()
    for inside in ("bin/python", "Scripts/python.exe"):
        if (path / inside).exists():
            return str((path / inside).absolute())
    found = shutil.which(str(path))
    if not found:
        raise CannotRun(f"{option}: no Python at {given}; give an interpreter or a venv's folder")
    return str(Path(found).absolute())


def _probe(place: command.Installation, name: str) -> None:
    """Check that the suite can run there; CannotRun if a module is missing."""
    asked = [place.python, "-P", "-c", _ASK, *_NEEDED]
    answer = subprocess.run(
        asked, capture_output=True, errors="replace", env=place.environment(), check=False
    )
    if answer.returncode:
        last = last_line(answer.stderr, f"exit status {answer.returncode}")
        raise CannotRun(
            f"the {name} cannot run the suite: {last}; "
            f"{place.python} -m pip install torch-device-bench installs what is missing"
        )


def _git(option: str, *words: str, otherwise: str = "", remedy: str = "") -> str:
    """Return the output of git.

    If it fails: CannotRun with its last line and a `remedy`, or with `otherwise`.
    """
    try:
        made = subprocess.run(["git", *words], capture_output=True, errors="replace", check=False)
    except OSError as problem:
        raise CannotRun(f"{option}: cannot run git: {problem.strerror}; install git") from problem
    if made.returncode:
        last = last_line(made.stderr, "")
        raise CannotRun(f"{option}: {last + remedy if last else otherwise}")
    return made.stdout.strip()


def pinned(side: Side, name: str) -> Side:
    """Return side `name` with the commit of its ref; CannotRun if there is no such commit."""
    if not side.ref:
        return side
    words = ("rev-parse", "--verify", "--quiet", "--short=12", side.ref + "^{commit}")
    missing = f"the repository here has no commit {side.ref!r}"
    here = f"; run this in the repository that has {side.ref!r}"
    return replace(side, ref=_git(f"--{name}-ref", *words, otherwise=missing, remedy=here))


def clean(folder: Path) -> None:
    """Remove the copies, and let git forget the checkouts."""
    checked_out = any(folder.glob("*/tree"))
    shutil.rmtree(folder, ignore_errors=True)
    if checked_out:
        subprocess.run(["git", "worktree", "prune"], capture_output=True, check=False)
