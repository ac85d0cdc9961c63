"""Rates from declared amounts of work, and what they say side by side."""

import pandas as pd

from bench.compare import cells as cell_index
from bench.compare import estimates
from bench.compare.cells import Cell
from bench.stats.ratios import Ratio


def ratio(cell: Cell, base: Cell) -> Ratio | None:
    """Return how many times as long an item takes in `cell` as in `base`, None where not known."""
    found = estimates.ratio(cell.estimate, base.estimate)
    if found is None or not cell.items or not base.items:
        return None
    scale = base.items / cell.items
    return Ratio(found.value * scale, found.low * scale, found.high * scale)


def items_per_second(cell: Cell) -> float:
    """Return the items of a cell a second over its runs, 0 where they are not known."""
    return cell.rate(cell.items) or 0.0


def _sized(found: list[Cell], family: str, benchmark: str) -> list[tuple[float, Cell]]:
    """Return the cells of a benchmark that have a rate and a batch size, with that size."""
    return [
        (batch, cell)
        for cell in found
        if (cell.family, cell.benchmark) == (family, benchmark)
        and (batch := cell.number("batch"))
        and items_per_second(cell)
    ]


def _verdict(loader: Cell, step: Cell) -> str:
    value = cell_index.telling(ratio(loader, step))
    if value is None:
        return "neither is clearly the bottleneck"
    return "loading is the bottleneck" if value.value > 1 else "loading keeps up"


def bottlenecks(frame: pd.DataFrame) -> list[str]:
    """Say for each device whether loading images keeps up with the training step.

    The best DataLoader setting over all runs, in images a second, beside the step in its fastest
    dtype at the batch size nearest to the loader's, in samples a second.
    """
    chosen = frame[frame.benchmark.isin(("loader", "step"))]
    found = [] if chosen.empty else cell_index.of(chosen)
    loaders, steps = _sized(found, "loading", "loader"), _sized(found, "training", "step")
    if not loaders or not steps:
        return []
    size, loader = max(loaders, key=lambda pair: items_per_second(pair[1]))
    said = [f"loading gives {items_per_second(loader):,.0f} images/s at best ({loader.setting})"]
    for device in dict.fromkeys(cell.device for _, cell in steps):
        here = [(abs(batch - size), cell) for batch, cell in steps if cell.device == device]
        nearest = min(away for away, _ in here)
        step = max((cell for away, cell in here if away == nearest), key=items_per_second)
        said.append(
            f"a training step on {device} takes {items_per_second(step):,.0f} samples/s "
            f"({step.dtype}, {step.setting}): {_verdict(loader, step)}"
        )
    return said
