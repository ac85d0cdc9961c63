"""The group of each benchmark, as the files of the suite declare it."""

import ast
import functools
from pathlib import Path
from typing import Any

from bench.compare.cells import Cell

#: The groups in the order of the answers; others follow.
ORDER = (
    *("training", "matrix products", "convolutions and attention", "layers and losses"),
    *("optimizers", "element-wise", "reductions", "indexing and sorting", "creation"),
    *("joining and copies", "transfers", "loading", "distributed", "own model"),
)
_SUITE = Path(__file__).parents[1] / "suite"


def of(cell: Cell) -> str:
    """Return the group of a cell; without a declaration the name of its family."""
    return declared().get((cell.family, cell.benchmark), cell.family)


def place(group: str) -> int:
    """Return the place of a group in the answers."""
    return ORDER.index(group) if group in ORDER else len(ORDER)


@functools.cache
def declared() -> dict[tuple[str, str], str]:
    """Return the group of each family and benchmark of the suite.

    A file of benchmarks declares ``GROUP = "name"`` for all of them, or ``GROUPS = {"name":
    (benchmarks)}``. The files are parsed and not imported, because they need torch.
    """
    found = {}
    for path in sorted(_SUITE.glob("*/bench_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
        benchmarks = [n.removeprefix("bench_") for n in names if n.startswith("bench_")]
        constants: dict[str, Any] = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if node.targets[0].id in ("GROUP", "GROUPS")
        }
        groups = {
            name: group for group, names in constants.get("GROUPS", {}).items() for name in names
        }
        for name in benchmarks:
            if group := groups.get(name, constants.get("GROUP")):
                found[path.parent.name, name] = group
    return found
