"""The node ids that pytest gives the cells of this suite, read from the suite's sources.

pytest-benchmark compares benchmarks by node id, and a CSV does not hold it. Reading the sources,
without importing them, keeps torch out of the exchange.
"""

import ast
import functools
import re
from pathlib import Path

_SUITE = Path(__file__).parents[1] / "suite"
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def _argument_names(decorator: ast.expr) -> list[str]:
    """Return the names that one ``pytest.mark.parametrize`` fills, none for another decorator."""
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return []
    if decorator.func.attr != "parametrize":
        return []
    names = ast.literal_eval(decorator.args[0])
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


@functools.cache
def _signatures() -> dict[tuple[str, str], tuple[str, list[str]]]:
    """Return file and parameter names, in pytest's order, by family and benchmark."""
    found = {}
    for path in sorted(_SUITE.glob("*/bench_*.py")):
        file = path.relative_to(_SUITE.parents[1]).as_posix()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("bench_"):
                # pytest applies the decorator that is closest to the function first.
                decorators = reversed(node.decorator_list)
                names = [name for one in decorators for name in _argument_names(one)]
                key = (path.parent.name, node.name.removeprefix("bench_"))
                found[key] = (file, names)
    return found


def node_id(
    family: str, benchmark: str, device: str, dtype: str, params: dict[str, str]
) -> str | None:
    """Return the node id of a cell of this suite, None where the suite has no such cell.

    For example ``bench/suite/tensors/bench_inplace.py::bench_add[cpu-float32-n16-in_place]``.
    """
    file, names = _signatures().get((family, benchmark), ("", []))
    if not file or set(names) != params.keys():
        return None
    # The plugin names a number by its parameter (`pytest_make_parametrize_id`).
    words = [
        f"{name}{params[name]}" if _NUMBER.fullmatch(params[name]) else params[name]
        for name in names
    ]
    return f"{file}::bench_{benchmark}[{'-'.join([device, dtype, *words])}]"


def family_of(node: str) -> str | None:
    """Return the family that a node id of this suite names, None for one of another suite."""
    found = re.match(r"(?:.*/)?bench/suite/(\w+)/bench_\w+\.py::", node)
    return found[1] if found else None
