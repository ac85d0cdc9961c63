"""What depends on the size: which device wins from where on, and what a small call costs."""

import itertools
import math
from collections.abc import Iterable, Iterator

from bench.compare import cells, estimates
from bench.compare.cells import Cell
from bench.compare.estimates import Estimate
from bench.report import units
from bench.verdicts.crossover import Crossover, crossover
from bench.verdicts.finding import Verdict, size_of, times

#: A call takes this many times the time of the smallest one where overhead has stopped to matter.
OVERHEAD_GONE = 2.0


def _sweeps(found: Iterable[Cell]) -> Iterator[tuple[Cell, str, dict[str, dict[float, Estimate]]]]:
    """Give each benchmark's sweep: a cell of it, its param, and the estimates by device."""
    groups: dict[tuple[object, ...], dict[str, dict[float, Estimate]]] = {}
    example: dict[tuple[object, ...], tuple[Cell, str]] = {}
    for cell in found:
        for param in ("batch", "n"):
            size = cell.number(param)
            if size is None:
                continue
            rest = tuple((k, v) for k, v in cell.params.items() if k != param)
            key: tuple[object, ...] = (cell.family, cell.benchmark, cell.dtype, rest, param)
            example.setdefault(key, (cell, param))
            groups.setdefault(key, {}).setdefault(cell.device, {})[size] = cell.estimate
    for key, by_device in groups.items():
        yield (*example[key], by_device)


def _crossing(where: Crossover, sizes: Iterable[float]) -> str:
    low = size_of(where.low) if where.low is not None else f"below {size_of(min(sizes))}"
    high = size_of(where.high) if where.high is not None else f"beyond {size_of(max(sizes))}"
    return f"{size_of(where.size)} ({low} to {high})"


def devices(found: list[Cell]) -> Iterator[Verdict]:
    """Tell which device wins each workload, and from which size on."""
    for cell, param, by_device in _sweeps(found):
        base = by_device.get("cpu")
        others = [name for name in by_device if name != "cpu"]
        if not base or not others:
            continue
        rest = " ".join(f"{k}={v}" for k, v in cell.params.items() if k != param)
        what = " ".join(filter(None, [cell.benchmark, rest, f"in {cell.dtype}"]))
        for device in others:
            ratios = {
                size: value
                for size in sorted(by_device[device].keys() & base.keys())
                if (value := estimates.ratio(by_device[device][size], base[size]))
            }
            sizes = list(ratios)
            told = [size for size in sizes if cells.telling(ratios[size])]
            if not told:
                continue
            seen = crossover(by_device[device], base)
            if isinstance(seen, Crossover):
                verb = "overtakes" if seen.faster_above else "falls behind"
                text = f"{what}: {device} {verb} cpu at {param} {_crossing(seen, sizes)}"
            elif seen in ("always", "never"):
                word = "faster" if seen == "always" else "never faster"
                text = f"{what}: {device} is {word} than cpu in the range measured, {param} "
                text += f"{size_of(sizes[0])} to {size_of(sizes[-1])}"
            else:
                continue
            if told[-1] == sizes[-1]:
                text += f"; at {size_of(sizes[-1])} it is {times(ratios[sizes[-1]])}"
            yield Verdict("device", text, abs(math.log(ratios[told[-1]].value)))


def overhead(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what a call costs by itself on each device, and from which size on it is small."""
    for cell, _, by_device in _sweeps(found):
        form = cell.params.get("form")
        if (cell.benchmark, cell.dtype, form) != ("add", "float32", "out_of_place"):
            continue
        for device, sizes in by_device.items():
            times = {size: e.seconds for size, e in sorted(sizes.items()) if e.seconds}
            # Without a time of the smallest call nothing is known of what a small one costs.
            if len(times) < 3 or min(times) > min(sizes):
                continue
            smallest = min(times)
            text = f"a small call costs {units.seconds(times[smallest])} on {device} (add n="
            text += f"{size_of(smallest)})"
            limit = OVERHEAD_GONE * times[smallest]
            pairs = itertools.pairwise(times.items())
            for (a, ta), (b, tb) in pairs:
                if ta < limit <= tb:
                    # Straight between the two: a call takes its overhead and so much an element.
                    size = a + (limit - ta) / (tb - ta) * (b - a)
                    text += f", and stops mattering at about {size_of(size)} elements"
                    break
            yield Verdict("overhead", text, 0.0)
