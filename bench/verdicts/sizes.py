"""What depends on the size: which device wins from which size on, and what a small call costs."""

import itertools
from collections.abc import Iterable, Iterator

from bench.compare import estimates
from bench.compare.cells import Cell, alike
from bench.compare.estimates import Estimate
from bench.verdicts.crossover import Crossover, crossover
from bench.verdicts.finding import Finding, Overhead, Subject, Sweep, notable
from bench.verdicts.named import ADD

#: Params that are sizes: crossovers are looked for along them.
SIZES = ("batch", "n")
#: Overhead is negligible once a call takes this many times the time of the smallest call.
NEGLIGIBLE = 2.0


def _sweeps(found: Iterable[Cell]) -> Iterator[tuple[Cell, str, dict[str, dict[float, Estimate]]]]:
    """Give each benchmark's sweep: a cell of it, its param, and the estimates by device."""
    found = list(found)
    for param in SIZES:
        sized = (cell for cell in found if cell.number(param))
        for group in alike(sized, "device", param=param):
            by_device: dict[str, dict[float, Estimate]] = {}
            for cell in group:
                by_device.setdefault(cell.device, {})[float(cell.params[param])] = cell.estimate
            yield group[0], param, by_device


def devices(found: list[Cell], base: str = "cpu") -> Iterator[Finding]:
    """Find which device wins each workload, and from which size on; the rival is `base`."""
    made = []
    for cell, param, by_device in _sweeps(found):
        if host := by_device.get(base):
            rest = {name: value for name, value in cell.params.items() if name != param}
            place = (cell.dtype, cell.name, rest)
            made += [
                (place, param, name, by_device[name], host) for name in by_device if name != base
            ]
    among = sum(len(side.keys() & host.keys()) for *_, side, host in made)
    for place, param, device, side, host in made:
        ratios = {
            size: ratio
            for size in sorted(side.keys() & host.keys())
            if (ratio := estimates.ratio(side[size], host[size]))
        }
        decisive = [
            size for size in ratios if notable(estimates.ratio(side[size], host[size], among))
        ]
        seen = crossover(side, host, among)
        if not decisive or len(ratios) < 3:
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
            subject=Subject(device, *place),
            advice=advice,
            ratio=ratios[decisive[-1]],
            rival=Subject(base, *place),
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
    added = [cell for cell in ADD.among(found) if cell.dtype == "float32"]
    for _, _, by_device in _sweeps(c for c in added if c.params["form"] == "out_of_place"):
        for device, sizes in by_device.items():
            times = {size: e.seconds for size, e in sorted(sizes.items()) if e.seconds}
            # Without a time of the smallest call the cost of a small one is unknown.
            if len(times) < 3 or min(times) > min(sizes):
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
