"""The same questions across machines: what each uses best, and how its devices compare."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from bench.compare.cells import Cell, alike
from bench.verdicts import grouped, loading, sizes, use
from bench.verdicts.finding import Finding, Subject, compared


def across(machines: Mapping[str, list[Cell]]) -> Iterator[Finding]:
    """Compare each machine, or setting of one, with the first; its name is the rival's device.

    A device of another machine is called ``MACHINE DEVICE``. Its rival is the device of the first
    machine that does the work of the cell fastest, in float32.
    """
    plain = {name: [c for c in found if c.dtype == "float32"] for name, found in machines.items()}
    (base, host), *others = plain.items()
    merged = list(_fastest(host, base))
    yield from _best(machines, use.settings, topic="machine", unit="samples/s")
    yield from _best(machines, loading.loading, topic="machine loading", unit="images/s")
    for name, cells in others:
        merged += [replace(cell, device=f"{name} {cell.device}") for cell in cells]
    for rule in (grouped.devices, sizes.devices):
        yield from rule(merged, base)


def _fastest(cells: list[Cell], name: str) -> Iterator[Cell]:
    """Yield each cell on the device that is the fastest, as the cell of a device of that name."""
    for group in alike(cells, "device"):
        fastest = min(group, key=lambda cell: cell.estimate.seconds or float("inf"))
        yield replace(fastest, device=name)


def _best(
    machines: Mapping[str, list[Cell]],
    rule: Callable[[list[Cell]], Iterator[Finding]],
    topic: str,
    unit: str,
) -> Iterator[Finding]:
    """Compare the settings that a rule finds best on each machine."""
    best = {}
    for name, cells in machines.items():
        chosen = next(rule(cells), None)
        if chosen and chosen.advice != "unknown":
            best[name] = next(c for c in cells if Subject.of(c) == chosen.subject)
    base = next(iter(machines))
    for name, cell in best.items() if base in best else ():
        other = best[base]
        yield Finding(
            topic=topic,
            subject=replace(Subject.of(cell), device=f"{name} {cell.device}"),
            ratio=compared(cell, other, len(best), "items"),
            amount=cell.rate("items") or None,
            unit=unit,
            rival=replace(Subject.of(other), device=base),
        )
