"""The group of each benchmark, as the files of the suite declare it."""

from bench.compare.benchmarks import declared

#: The groups in the order of the answers; others follow.
ORDER = (
    *("training", "matrix products", "convolutions and attention", "layers and losses"),
    *("optimizers", "element-wise", "reductions", "indexing and sorting", "creation"),
    *("joining and copies", "transfers", "loading", "distributed", "own model"),
)


def of(family: str, benchmark: str) -> str:
    """Return the group of a benchmark; without a declaration the name of its family."""
    known = declared().get((family, benchmark))
    return known.group if known and known.group else family


def place(group: str) -> int:
    """Return the place of a group in the answers."""
    return ORDER.index(group) if group in ORDER else len(ORDER)
