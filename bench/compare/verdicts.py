"""What to use on a machine, in sentences that carry their figures.

Each rule is a function of the cells of one machine that gives verdicts. Nothing is said of a
difference that `estimates.ratio` does not call significant.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from bench import units
from bench.compare import cells as cell_index
from bench.compare import estimates, rates
from bench.compare.cells import Cell
from bench.compare.estimates import Estimate, Ratio
from bench.compare.sweeps import Crossover, crossover

#: From this factor on the sentence says "avoid" rather than "slower".
AVOID = 1.5
#: A call takes this many times the time of the smallest one where overhead has stopped to matter.
OVERHEAD_GONE = 2.0
#: A bandwidth-bound operation below this share of the measured bandwidth leaves something behind.
LOW_SHARE = 0.25
#: Working sets from here on are read from memory rather than from a cache, on most machines.
LARGE_BYTES = 64 * 2**20
#: Statuses that are told of each cell, worst first.
_FAULTS = ("wrong", "error", "oom", "fallback")
#: Cells of one fault, or of what is as good as the best, that are named; the rest are counted.
NAMED = 3


@dataclass(frozen=True)
class Verdict:
    """A sentence, what it is about, and what it is worth: the logarithm of the factor at stake.

    `topic` is one of ``fault``, ``unsupported``, ``device``, ``dtype``, ``loading``, ``optimizer``,
    ``in place``, ``copy``, ``peak``, ``overhead``.
    """

    topic: str
    text: str
    worth: float


def _times(value: Ratio) -> str:
    """Return ``2.4x slower (2.3 to 2.5)`` or ``1.8x faster (...)``."""
    bounds = (value.value, value.low, value.high)
    if value.value < 1:
        bounds = (1 / value.value, 1 / value.high, 1 / value.low)
    middle, low, high = (units.significant(bound, 2) for bound in bounds)
    return f"{middle}x {'slower' if value.value > 1 else 'faster'} ({low} to {high})"


def _telling(cell: Cell | None, base: Cell | None) -> Ratio | None:
    """Return the ratio of two cells where it is significant and worth telling."""
    if cell is None or base is None:
        return None
    return cell_index.telling(estimates.ratio(cell.estimate, base.estimate))


def _and(names: list[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b, c and 4 more``."""
    shown = names[:NAMED] + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def faults(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what is wrong, fails, or leaves its device."""
    order = sorted(found, key=lambda cell: (cell.device, cell.benchmark))
    for status in _FAULTS:
        groups = itertools.groupby(
            [cell for cell in order if cell.estimate.status == status],
            key=lambda cell: (cell.device, cell.benchmark),
        )
        for (device, _), group in groups:
            several = list(group)
            for cell in several[:NAMED]:
                text = f"{cell.name} in {cell.dtype} on {device} is {status}: "
                yield Verdict("fault", text + cell.estimate.reason, math.inf)
            if len(several) > NAMED:
                more = len(several) - NAMED
                yield Verdict("fault", f"{more} more of it on {device} are {status}", math.inf)


def unsupported(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what each device refuses, by dtype."""
    places: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in found:
        place = places.setdefault((cell.device, cell.dtype), {})
        place.setdefault(cell.benchmark, []).append(cell)
    for (device, dtype), by_benchmark in places.items():
        names = [
            benchmark + (f" ({_refused(cells)})" if _refused(cells) else "")
            for benchmark, cells in by_benchmark.items()
            if any(cell.estimate.status == "unsupported" for cell in cells)
        ]
        if names:
            text = f"unsupported on {device} in {dtype}: {', '.join(names)}"
            yield Verdict("unsupported", text, 0.0)


def _refused(cells: list[Cell]) -> str:
    """Name the cells of one benchmark that are refused by as few params as it takes.

    Nothing needs to be said where all of them are.
    """
    refused = [cell for cell in cells if cell.estimate.status == "unsupported"]
    names = dict.fromkeys(name for cell in cells for name in cell.params)
    spans = {name: dict.fromkeys(cell.params.get(name, "") for cell in refused) for name in names}
    alike = [c for c in cells if all(c.params.get(name, "") in spans[name] for name in names)]
    if len(alike) > len(refused):  # the values do not tell the refused cells from the others
        return _and([cell.setting for cell in refused])
    told = [n for n in names if any(c.params.get(n, "") not in spans[n] for c in cells)]
    return " ".join(f"{name}={'|'.join(spans[name])}" for name in told)


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


def _size(value: float) -> str:
    return f"{round(value):,}"


def _crossing(where: Crossover, sizes: Iterable[float]) -> str:
    low = _size(where.low) if where.low is not None else f"below {_size(min(sizes))}"
    high = _size(where.high) if where.high is not None else f"beyond {_size(max(sizes))}"
    return f"{_size(where.size)} ({low} to {high})"


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
            told = [size for size in sizes if cell_index.telling(ratios[size])]
            if not told:
                continue
            seen = crossover(by_device[device], base)
            if isinstance(seen, Crossover):
                verb = "overtakes" if seen.faster_above else "falls behind"
                text = f"{what}: {device} {verb} cpu at {param} {_crossing(seen, sizes)}"
            elif seen in ("always", "never"):
                word = "faster" if seen == "always" else "never faster"
                text = f"{what}: {device} is {word} than cpu in the range measured, {param} "
                text += f"{_size(sizes[0])} to {_size(sizes[-1])}"
            else:
                continue
            if told[-1] == sizes[-1]:
                text += f"; at {_size(sizes[-1])} it is {_times(ratios[sizes[-1]])}"
            yield Verdict("device", text, abs(math.log(ratios[told[-1]].value)))


def dtypes(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what float16 and bfloat16 win or lose on each device: the extremes over benchmarks."""
    seen: dict[tuple[str, str], list[tuple[Ratio, Cell]]] = {}
    for group in cell_index.across(found, "dtype"):
        base = group.get("float32")
        for dtype, cell in group.items():
            if dtype in ("float16", "bfloat16") and (value := _telling(cell, base)):
                seen.setdefault((cell.device, dtype), []).append((value, cell))
    for (device, dtype), pairs in seen.items():
        pairs.sort(key=lambda pair: pair[0].value)
        for value, cell in pairs if len(pairs) < 3 else (pairs[0], pairs[-1]):
            if value.value > 1:
                advice = "avoid" if value.value >= AVOID else "float32 is better there"
            else:
                advice = "use it where its precision is enough"
            text = f"{dtype} on {device}: {cell.name} is {_times(value)} than float32: {advice}"
            yield Verdict("dtype", text, abs(math.log(value.value)))


def _amount(value: float, unit: str) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{units.significant(value / factor)} {prefix}{unit}/s"
    return f"{units.significant(value)} {unit}/s"


def peaks(found: list[Cell]) -> Iterator[Verdict]:
    """Tell the peaks that were measured, and which large operations stay far below."""
    for device in dict.fromkeys(cell.device for cell in found):
        here = [cell for cell in found if cell.device == device]
        large = [c for c in here if c.family == "tensors" and (c.bytes or 0) >= LARGE_BYTES]
        moved = {c.name + c.dtype: (c, r) for c in large if (r := c.rate(c.bytes))}
        copies = [pair for pair in moved.values() if pair[0].benchmark == "copy"]
        if copies:
            best, peak = max(copies, key=lambda pair: pair[1])
            text = f"{device} moves {_amount(peak, 'B')} in its best copy "
            yield Verdict("peak", f"{text}({best.setting} in {best.dtype})", 0.0)
            for cell, rate in moved.values():
                if rate < LOW_SHARE * peak and not _computes(cell, here, peak):
                    share = f"{rate / peak:.0%}"
                    text = f"{cell.name} in {cell.dtype} on {device} reaches {share} of that"
                    yield Verdict("peak", text, math.log(peak / rate))
        products = [
            (cell, flops)
            for cell in here
            if cell.benchmark == "matmul" and (flops := cell.rate(cell.flop))
        ]
        for dtype in dict.fromkeys(cell.dtype for cell, _ in products):
            best, peak = max((p for p in products if p[0].dtype == dtype), key=lambda p: p[1])
            text = f"{device} computes {_amount(peak, 'FLOP')} in its best {dtype} matmul "
            text += f"({best.setting})"
            yield Verdict("peak", text, 0.0)


def _computes(cell: Cell, here: list[Cell], bandwidth: float) -> bool:
    """Whether arithmetic bounds a cell on its device, not the bandwidth in bytes/s.

    Its FLOP for each byte then lie beyond the ridge of the roofline: the best FLOP/s of its dtype
    over the bandwidth (S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009).
    """
    if not cell.flop or not cell.bytes:
        return False
    best = max(c.rate(c.flop) or 0.0 for c in here if c.dtype == cell.dtype)
    return cell.flop / cell.bytes > best / bandwidth


def overhead(found: list[Cell]) -> Iterator[Verdict]:
    """Tell what a call costs by itself on each device, and from which size on it is small."""
    for cell, _, by_device in _sweeps(found):
        form = cell.params.get("form")
        if (cell.benchmark, cell.dtype, form) != ("add", "float32", "out_of_place"):
            continue
        for device, sizes in by_device.items():
            times = {size: e.seconds for size, e in sorted(sizes.items()) if e.seconds}
            if len(times) < 3:
                continue
            smallest = min(times)
            text = f"a small call costs {units.seconds(times[smallest])} on {device} (add n="
            text += f"{_size(smallest)})"
            limit = OVERHEAD_GONE * times[smallest]
            pairs = itertools.pairwise(times.items())
            for (a, ta), (b, tb) in pairs:
                if ta < limit <= tb:
                    # Straight between the two: a call takes its overhead and so much an element.
                    size = a + (limit - ta) / (tb - ta) * (b - a)
                    text += f", and stops mattering at about {_size(size)} elements"
                    break
            yield Verdict("overhead", text, 0.0)


def loading(found: list[Cell]) -> Iterator[Verdict]:
    """Tell how many workers and which batch load fastest, and what workers win or cost."""
    known = [
        c for c in found if c.benchmark == "loader" and {"workers", "batch"} <= c.params.keys()
    ]
    timed = [c for c in known if rates.items_per_second(c)]
    if not timed:
        return
    best, *others = sorted(timed, key=rates.items_per_second, reverse=True)
    ties = [c for c in others if not cell_index.telling(rates.ratio(c, best))]
    text = f"loading: {_loader(best)} is {'among ' if ties else ''}the best, "
    text += f"{rates.items_per_second(best):,.0f} images/s"
    worth = 0.0
    rival = next((c for c in others if _alone(c) != _alone(best) and rates.ratio(c, best)), None)
    if rival:
        said, worth = _workers(best, rival)
        text += said
    if alike := [_loader(c) for c in ties if _alone(c) == _alone(best)]:
        text += f"; {_and(alike)} may be about as fast"
    if untimed := len(known) - len(timed):
        text += f"; {untimed} of {len(known)} settings {'has' if untimed == 1 else 'have'} no time"
    yield Verdict("loading", text, worth)


def _workers(best: Cell, rival: Cell) -> tuple[str, float]:
    """Say what workers win or cost, and its worth: one of the two cells has none."""
    alone = _alone(best)
    value = cell_index.telling(rates.ratio(rival, best) if alone else rates.ratio(best, rival))
    if value is None:
        return f"; no difference worth telling is seen {'with' if alone else 'without'} workers", 0
    if alone:
        text = f"; the best with workers, {_loader(rival)}, is {_times(value)}"
    else:
        same = rival.params["batch"] == best.params["batch"]
        text = f", {_times(value)} than {'without workers' if same else _loader(rival)}"
    return text, abs(math.log(value.value))


def _alone(cell: Cell) -> bool:
    """Whether images are loaded without workers, by the process that trains."""
    return cell.params["workers"] == "0"


def _loader(cell: Cell) -> str:
    return f"workers={cell.params['workers']} batch={cell.params['batch']}"


def optimizers(found: list[Cell]) -> Iterator[Verdict]:
    """Tell which implementation of each optimizer is the fastest, or what it is faster than."""
    steps = [c for c in found if c.benchmark == "optimizer_step" and c.dtype == "float32"]
    for group in cell_index.contrasts(steps, "implementation"):
        usable = {name: cell for name, cell in group.items() if cell.estimate.seconds}
        ordered = sorted(usable.items(), key=lambda pair: pair[1].estimate.seconds or 0)
        slower = {name: value for name, c in ordered[1:] if (value := _telling(ordered[0][1], c))}
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
        text += f"{'' if ties or untimed else 'the fastest, '}{_times(value)} than {worst}"
        text += f"; {_and(ties)} may be about as fast" if ties else ""
        text += "".join(f"; {name} has no time ({status})" for name, status in untimed.items())
        yield Verdict("optimizer", text, abs(math.log(value.value)))


def in_place(found: list[Cell]) -> Iterator[Verdict]:
    """Tell where working in place pays, or costs: the largest difference of each benchmark."""
    best: dict[tuple[str, str], Verdict] = {}
    for group in cell_index.contrasts([c for c in found if c.dtype == "float32"], "form"):
        here, base = group.get("in_place"), group.get("out_of_place")
        if here and (value := _telling(here, base)):
            worth = abs(math.log(value.value))
            rest = " ".join(f"{k}={v}" for k, v in here.params.items() if k != "form")
            text = f"{here.benchmark} {rest} on {here.device}: in place is {_times(value)}"
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
        value = _telling(cell, sharing)
        if value and value.value > 1 and sharing and sharing.estimate.seconds:
            assert cell.estimate.seconds
            text = f"torch.tensor(array) copies: {units.seconds(cell.estimate.seconds)} for n={n}, "
            text += f"from_numpy shares the memory in {units.seconds(sharing.estimate.seconds)}"
            yield Verdict("copy", text, math.log(value.value))


RULES: tuple[Callable[[list[Cell]], Iterator[Verdict]], ...] = (
    *(faults, devices, dtypes, loading, optimizers, in_place, copies, unsupported),
    *(peaks, overhead),
)
#: What is known of a machine without being a difference between two ways of doing something.
FACTS = ("peak", "overhead")


def of(frame: pd.DataFrame) -> list[Verdict]:
    """Return the verdicts on the machine of a frame: faults, then by worth, then mere facts."""
    found = cell_index.of(frame)
    made = [verdict for rule in RULES for verdict in rule(found)]
    made += [Verdict("loading", text, 0.0) for text in rates.bottlenecks(frame)]
    told = [verdict for verdict in made if verdict.topic not in FACTS]
    told.sort(key=lambda verdict: -verdict.worth)
    return told + [verdict for verdict in made if verdict.topic in FACTS]
