"""What the files of the suite declare about its benchmarks, read without importing them."""

import ast
import functools
from pathlib import Path
from typing import Any, NamedTuple

_SUITE = Path(__file__).parents[1] / "suite"
#: The groups in the order of the answers; others follow.
GROUPS = (
    *("training", "matrix products", "convolutions and attention", "layers and losses"),
    *("optimizers", "element-wise", "reductions", "indexing and sorting", "creation"),
    *("joining and copies", "transfers", "loading", "distributed", "own model"),
)


class Benchmark(NamedTuple):
    """The file of a benchmark, the names of its params in pytest's order, and its group."""

    file: str
    params: tuple[str, ...]
    group: str


@functools.cache
def declared() -> dict[tuple[str, str], Benchmark]:
    """Return every benchmark of the suite by its family and name.

    A file declares ``GROUP = "name"`` for all of its benchmarks, or ``GROUPS = {"name":
    (benchmarks)}``. The files are parsed and not imported, because they need torch.
    """
    found = {}
    for path in sorted(_SUITE.glob("*/bench_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants: dict[str, Any] = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if node.targets[0].id in ("GROUP", "GROUPS")
        }
        groups = {
            name: group for group, names in constants.get("GROUPS", {}).items() for name in names
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("bench_"):
                name = node.name.removeprefix("bench_")
                found[path.parent.name, name] = Benchmark(
                    path.relative_to(_SUITE.parents[1]).as_posix(),
                    # pytest applies the decorator that is closest to the function first.
                    tuple(n for one in reversed(node.decorator_list) for n in _parametrized(one)),
                    groups.get(name, constants.get("GROUP", "")),
                )
    return found


def _parametrized(decorator: ast.expr) -> list[str]:
    """Return the names that one ``pytest.mark.parametrize`` fills, none for another decorator."""
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return []
    if decorator.func.attr != "parametrize":
        return []
    names = ast.literal_eval(decorator.args[0])
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def group(family: str, benchmark: str) -> str:
    """Return the group of a benchmark; without a declaration the name of its family."""
    known = declared().get((family, benchmark))
    return known.group if known and known.group else family


def place(group: str) -> tuple[int, str]:
    """Return the sort key of a group."""
    return GROUPS.index(group) if group in GROUPS else len(GROUPS), group
