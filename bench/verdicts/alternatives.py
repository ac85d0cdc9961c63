"""Which of several ways to do the same is the best: dtype, optimizer, in place, sharing."""

import math
from collections.abc import Iterator

from bench.compare import cells
from bench.compare.cells import Cell
from bench.report import units
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Verdict, listed, telling, times

#: From this factor on the sentence says "avoid" rather than "slower".
AVOID = 1.5


def dtypes(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what float16 and bfloat16 win or lose on each device: the extremes over benchmarks."""
    seen: dict[tuple[str, str], list[tuple[Ratio, Cell]]] = {}
    for group in cells.across(found, "dtype"):
        base = group.get("float32")
        for dtype, cell in group.items():
            if dtype in ("float16", "bfloat16") and (value := telling(cell, base)):
                seen.setdefault((cell.device, dtype), []).append((value, cell))
    for (device, dtype), pairs in seen.items():
        pairs.sort(key=lambda pair: pair[0].value)
        for value, cell in pairs if len(pairs) < 3 else (pairs[0], pairs[-1]):
            if value.value > 1:
                advice = "avoid" if value.value >= AVOID else "float32 is better there"
            else:
                advice = "use it where its precision is enough"
            text = f"{dtype} on {device}: {cell.name} is {times(value)} than float32: {advice}"
            yield Verdict("dtype", text, abs(math.log(value.value)))


def optimizers(found: list[Cell]) -> Iterator[Verdict]:
    """Tell which implementation of each optimizer is the fastest, or what it is faster than."""
    steps = [c for c in found if c.benchmark == "optimizer_step" and c.dtype == "float32"]
    for group in cells.contrasts(steps, "implementation"):
        usable = {name: cell for name, cell in group.items() if cell.estimate.seconds}
        ordered = sorted(usable.items(), key=lambda pair: pair[1].estimate.seconds or 0)
        slower = {name: value for name, c in ordered[1:] if (value := telling(ordered[0][1], c))}
        if not slower:
            continue
        best, cell = ordered[0]
        ties = [name for name, _ in ordered[1:] if name not in slower]
        untimed = {
            name: c.estimate.status
            for name, c in group.items()
            if name not in usable and c.estimate.status != "unsupported"
        }
        worst, value = list(slower.items())[-1]
        text = f"{cell.params.get('optimizer')} on {cell.device}: {best} is "
        text += f"{'' if ties or untimed else 'the fastest, '}{times(value)} than {worst}"
        text += f"; {listed(ties)} may be about as fast" if ties else ""
        text += "".join(f"; {name} has no time ({status})" for name, status in untimed.items())
        yield Verdict("optimizer", text, abs(math.log(value.value)))


def in_place(found: list[Cell]) -> Iterator[Verdict]:
    """Tell where working in place pays, or costs: the largest difference of each benchmark."""
    best: dict[tuple[str, str], Verdict] = {}
    for group in cells.contrasts([c for c in found if c.dtype == "float32"], "form"):
        here, base = group.get("in_place"), group.get("out_of_place")
        if here and (value := telling(here, base)):
            worth = abs(math.log(value.value))
            rest = " ".join(f"{k}={v}" for k, v in here.params.items() if k != "form")
            text = f"{here.benchmark} {rest} on {here.device}: in place is {times(value)}"
            key = (here.device, here.benchmark)
            if key not in best or worth > best[key].worth:
                best[key] = Verdict("in place", text, worth)
    yield from best.values()


def copies(found: list[Cell]) -> Iterator[Verdict]:
    """Tell which copy from numpy need not be."""
    bridge = {
        (c.benchmark, c.device, c.dtype, c.params.get("n")): c
        for c in found
        if c.benchmark in ("tensor_from_array", "from_numpy")
    }
    for (benchmark, device, dtype, n), cell in bridge.items():
        if (benchmark, device, dtype) != ("tensor_from_array", "cpu", "float32"):
            continue
        sharing = bridge.get(("from_numpy", device, dtype, n))
        value = telling(cell, sharing)
        if value and value.value > 1 and sharing and sharing.estimate.seconds:
            assert cell.estimate.seconds
            text = f"torch.tensor(array) copies: {units.seconds(cell.estimate.seconds)} for n={n}, "
            text += f"from_numpy shares the memory in {units.seconds(sharing.estimate.seconds)}"
            yield Verdict("copy", text, math.log(value.value))
