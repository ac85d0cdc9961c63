"""The node ids that pytest gives the cells of this suite.

pytest-benchmark compares benchmarks by node id, and a CSV does not hold it.
"""

import re

from bench.compare.benchmarks import declared

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def node_id(
    family: str, benchmark: str, device: str, dtype: str, params: dict[str, str]
) -> str | None:
    """Return the node id of a cell of this suite, None where the suite has no such cell.

    For example ``bench/suite/tensors/bench_inplace.py::bench_add[cpu-float32-n16-in_place]``.
    """
    known = declared().get((family, benchmark))
    if not known or set(known.params) != params.keys():
        return None
    # The plugin names a number by its parameter (`pytest_make_parametrize_id`).
    words = [
        f"{name}{params[name]}" if _NUMBER.fullmatch(params[name]) else params[name]
        for name in known.params
    ]
    return f"{known.file}::bench_{benchmark}[{'-'.join([device, dtype, *words])}]"


def family_of(node: str) -> str | None:
    """Return the family that a node id of this suite names, None for one of another suite."""
    found = re.match(r"(?:.*/)?bench/suite/(\w+)/bench_\w+\.py::", node)
    return found[1] if found else None
