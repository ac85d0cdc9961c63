"""The command that runs the suite: its Python, its package, the folders and files to collect."""

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.records import reader
from bench.records.choices import UserError

PACKAGE = Path(__file__).parents[1]
#: Options of pytest without a value, after which a folder may follow.
_FLAGS = ("-x", "-s", "-v", "-vv", "-q", "--download", "--benchmark-quiet")


class CannotRun(UserError):
    """The suite cannot run as requested; the message is one line for the user."""


@dataclass(frozen=True)
class Installation:
    """A Python, the folder of the suite, and extra environment variables.

    `tree` is the checkout of a git ref: files of the user are taken from it.
    """

    python: str = sys.executable
    package: Path = PACKAGE
    env: Mapping[str, str] = field(default_factory=dict)
    tree: Path | None = None

    def environment(self) -> dict[str, str]:
        """Return all environment variables of a process."""
        return {**os.environ, **self.env}


#: This Python and this suite.
HERE = Installation()


def of(*arguments: str, place: Installation = HERE) -> list[str]:
    """Return the command that runs pytest on the suite, or on files of the user in `arguments`.

    Files of the user run under the user's own pytest settings. The suite ignores those.
    """
    python = [place.python]
    # The current folder may hold another package `bench`: a checkout beside an installed suite, or
    # benchmarks of the user. Python must not import that one.
    if place.package != PACKAGE or _shadowed(place.package):
        python.append("-P")
    pytest_ = [*python, "-m", "pytest", "-p", "bench.plugin"]
    files = user_files(arguments)
    if files:
        return [*pytest_, *(_in_tree(a, place.tree) if a in files else a for a in arguments)]
    settings = ["-c", str(place.package / "plugin" / "suite.ini")]
    settings += ["--rootdir", str(place.package.parent)]
    return [*pytest_, *settings, *map(str, folders(place.package, arguments)), *arguments]


def user_files(arguments: Sequence[str]) -> list[str]:
    """Return the files and folders among `arguments` that hold benchmarks of the user.

    These are Python files, with or without ``::name``, and folders that exist and are not the
    value of the option before them.
    """
    found = []
    for before, word in itertools.pairwise(["", *arguments]):
        option = before.startswith("-") and "=" not in before and before not in _FLAGS
        file = word.partition("::")[0]
        if not word.startswith("-") and (
            file.endswith(".py") or (not option and Path(file).is_dir())
        ):
            found.append(word)
    return found


def _in_tree(word: str, tree: Path | None) -> str:
    """Return where the checkout `tree` holds a file of the user; CannotRun if it does not."""
    if tree is None:
        return word
    file, colons, name = word.partition("::")
    top = next((p for p in (Path.cwd(), *Path.cwd().parents) if (p / ".git").exists()), Path.cwd())
    if not Path(file).resolve().is_relative_to(top):
        return word
    there = tree / Path(file).resolve().relative_to(top)
    if not there.exists():
        raise CannotRun(f"{file} is not in the git ref; give a ref that has it")
    return f"{there}{colons}{name}"


def _shadowed(package: Path) -> bool:
    """Whether the current folder holds another package of the same name."""
    near = Path.cwd() / package.name
    return near.is_dir() and not near.samefile(package)


def values(arguments: Sequence[str], option: str) -> list[str]:
    """Return the values of an option, given as ``--option=value`` or as two words."""
    pairs = itertools.pairwise([*arguments, ""])
    joined = [(word.partition("=") if "=" in word else (word, "", after)) for word, after in pairs]
    return [value for name, _, value in joined if name == option]


def folders(package: Path, arguments: Sequence[str]) -> list[Path]:
    """Return the folders of the requested families, so that pytest collects no others."""
    families = [names.split(",") for names in values(arguments, "--family")]
    files = values(arguments, "--cells")
    if files:  # the last one counts, and overrides --family
        try:
            families = [sorted({cell.family for cell in reader.cells(Path(files[-1]))})]
        except reader.BadFile:
            families = []  # the plugin reports what is wrong with the file
    # A name from a file is never a path: it only chooses among the families there are.
    known = {file.parent.name: file.parent for file in (package / "suite").glob("*/bench_*.py")}
    asked = [name.strip() for names in families for name in names]
    # The plugin refuses an unknown family and lists the known ones.
    found = [known[name] for name in asked if name in known]
    return found if found and len(found) == len(asked) else [package / "suite"]
