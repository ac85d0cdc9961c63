"""How to load data: workers and batch size."""

import math
from collections.abc import Iterator

from bench.compare import cells, rates
from bench.compare.cells import Cell
from bench.verdicts.finding import Verdict, listed, times


def loading(found: list[Cell]) -> Iterator[Verdict]:
    """Tell how many workers and which batch load fastest, and what workers win or cost."""
    known = [
        c for c in found if c.benchmark == "loader" and {"workers", "batch"} <= c.params.keys()
    ]
    timed = [c for c in known if rates.items_per_second(c)]
    if not timed:
        return
    best, *others = sorted(timed, key=rates.items_per_second, reverse=True)
    ties = [c for c in others if not cells.telling(rates.ratio(c, best))]
    text = f"loading: {_loader(best)} is {'among ' if ties else ''}the best, "
    text += f"{rates.items_per_second(best):,.0f} images/s"
    worth = 0.0
    rival = next((c for c in others if _alone(c) != _alone(best) and rates.ratio(c, best)), None)
    if rival:
        said, worth = _workers(best, rival)
        text += said
    if alike := [_loader(c) for c in ties if _alone(c) == _alone(best)]:
        text += f"; {listed(alike)} may be about as fast"
    if untimed := len(known) - len(timed):
        text += f"; {untimed} of {len(known)} settings {'has' if untimed == 1 else 'have'} no time"
    yield Verdict("loading", text, worth)


def _workers(best: Cell, rival: Cell) -> tuple[str, float]:
    """Say what workers win or cost, and its worth: one of the two cells has none."""
    alone = _alone(best)
    value = cells.telling(rates.ratio(rival, best) if alone else rates.ratio(best, rival))
    if value is None:
        return f"; no difference worth telling is seen {'with' if alone else 'without'} workers", 0
    if alone:
        text = f"; the best with workers, {_loader(rival)}, is {times(value)}"
    else:
        same = rival.params["batch"] == best.params["batch"]
        text = f", {times(value)} than {'without workers' if same else _loader(rival)}"
    return text, abs(math.log(value.value))


def _alone(cell: Cell) -> bool:
    """Whether images are loaded without workers, by the process that trains."""
    return cell.params["workers"] == "0"


def _loader(cell: Cell) -> str:
    return f"workers={cell.params['workers']} batch={cell.params['batch']}"
