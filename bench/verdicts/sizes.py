"""What depends on the size: which device wins from which size on, and what a small call costs."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from bench.compare.cells import Cell, alike
from bench.compare.estimates import Estimate
from bench.verdicts.crossover import FEWEST, Crossover, by_size, crossover
from bench.verdicts.finding import Finding, Overhead, Subject, Sweep, notable
from bench.verdicts.grouped import pairs_of_devices
from bench.verdicts.named import ADD

#: Params that are sizes: crossovers are looked for along them, and along any other number whose
#: values in a benchmark span this factor: neither dims nor counts of workers do.
SIZES = ("batch", "n")
SPAN = 8.0
#: Overhead is negligible once a call takes this many times the time of the smallest call.
NEGLIGIBLE = 2.0

#: Device, dtype, benchmark, and the params besides that of the size.
_Place = tuple[str, str, str, tuple[tuple[str, str], ...]]
#: The estimates of a device and of its rival, by size.
_Sides = tuple[dict[float, Estimate], dict[float, Estimate]]


def place(cell: Cell, param: str) -> _Place:
    """Return what the cells of a sweep along `param` have in common."""
    rest = tuple((name, value) for name, value in cell.params.items() if name != param)
    return cell.device, cell.dtype, cell.name, rest


def _sweeps(found: list[Cell], base: str) -> Iterator[tuple[Subject, Subject, str, _Sides]]:
    """Give the subject and the rival of each sweep, its param, and the estimates of both."""
    pairs = pairs_of_devices(found, base)
    for param in dict.fromkeys((*SIZES, *(name for cell, _ in pairs for name in cell.params))):
        sweeps: dict[_Place, list[tuple[Cell, Cell]]] = {}
        for pair in pairs:
            if pair[0].number(param):
                sweeps.setdefault(place(pair[0], param), []).append(pair)
        for (device, dtype, benchmark, rest), several in sweeps.items():
            side = {float(cell.params[param]): cell.estimate for cell, _ in several}
            wide = max(side) >= SPAN * min(side)
            if len(side) >= FEWEST and (wide or param in SIZES):
                host = {float(cell.params[param]): rival.estimate for cell, rival in several}
                subject = Subject(device, dtype, benchmark, dict(rest))
                rival = replace(subject, device=several[0][1].device)
                yield subject, rival, param, (side, host)


def devices(found: list[Cell], base: str = "") -> Iterator[Sweep]:
    """Find from which size on a device wins each workload; see `grouped.pairs_of_devices`."""
    made = list(_sweeps(found, base))
    among = sum(len(side) for *_, (side, _) in made)
    for subject, rival, param, (side, host) in made:
        ratios = by_size(side, host)
        decisive = [size for size, one in by_size(side, host, among).items() if notable(one)]
        seen = crossover(side, host, among)
        if not decisive or len(ratios) < FEWEST:
            continue
        if seen == "unclear":
            # A tie at some size does not hide what the others agree on.
            directions = {ratios[size].value < 1 for size in decisive}
            if len(directions) > 1:
                continue
            seen = "faster" if directions == {True} else "slower"
        where = seen if isinstance(seen, Crossover) else None
        advice = ("above" if where.faster_above else "below") if where else str(seen)
        yield Sweep(
            topic="device",
            subject=subject,
            advice=advice,
            ratio=ratios[decisive[-1]],
            rival=rival,
            param=param,
            smallest=min(ratios),
            largest=max(ratios),
            at=decisive[-1],
            ties=tuple(size for size in ratios if size not in decisive),
            crossover=where,
            n=2 * len(ratios),
        )


def overhead(found: list[Cell]) -> Iterator[Finding]:
    """Find what a call costs by itself on each device, and from which size on that is small."""
    added = [
        cell
        for cell in ADD.among(found)
        if cell.dtype == "float32" and cell.params["form"] == "out_of_place" and cell.number("n")
    ]
    for group in alike(added, param="n"):
        sizes = {float(cell.params["n"]): cell.estimate for cell in group}
        device = group[0].device
        times = {size: e.seconds for size, e in sorted(sizes.items()) if e.seconds}
        # Without a time of the smallest call the cost of a small one is unknown.
        if len(times) < FEWEST or min(times) > min(sizes):
            continue
        smallest = min(times)
        limit, negligible = NEGLIGIBLE * times[smallest], None
        for (a, ta), (b, tb) in itertools.pairwise(times.items()):
            if ta < limit <= tb:
                # A straight line: a call takes its overhead and so much for each element.
                negligible = a + (limit - ta) / (tb - ta) * (b - a)
                break
        yield Overhead(
            topic="overhead",
            subject=Subject(device, "float32", ADD.benchmark, {"n": f"{smallest:.0f}"}),
            amount=times[smallest],
            unit="s",
            negligible_from=negligible,
            n=len(times),
        )
