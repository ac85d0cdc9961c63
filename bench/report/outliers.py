"""Machines that differ from others of the same hardware, in sentences or for a program."""

import dataclasses
from collections.abc import Callable, Sequence

from bench.compare.outliers import FEWEST, Fleet, Outlier
from bench.report import data, escape, fit, units


def _sentence(one: Outlier) -> str:
    what = " ".join(filter(None, (f"{one.what} on {one.device}", one.where)))
    direction = "slower" if one.change > 0 else "faster"
    return (
        f"{what} {abs(one.change):.0%} {direction} "
        f"than the other {one.others} ({one.cells} of {one.of} cells)"
    )


def _lines(fleets: Sequence[Fleet], as_text: Callable[[str], str]) -> list[str]:
    if not fleets:
        return [f"outliers need {FEWEST} machines or more with the same hardware: there are fewer"]
    lines = []
    for fleet in fleets:
        if not fleet.hardware:
            text = f"{fleet.machines} machines of unknown hardware are not compared with each other"
            lines.append(f"{text}; if it is the same, use --same-machine")
            continue
        machines = dict.fromkeys(one.machine for one in fleet.outliers)
        differ = f"{len(machines)} {'differs' if len(machines) == 1 else 'differ'} from the rest"
        count = differ if machines else f"all alike in {units.count(fleet.cells, 'cell')}"
        lines.append(as_text(f"{fleet.machines} machines with {fleet.hardware}: {count}"))
        for machine in machines:
            own = [one for one in fleet.outliers if one.machine == machine]
            rest = "" if any(one.what == "everything" for one in own) else "; the rest is normal"
            lines.append(f"- {as_text(f'{machine}: ' + '; '.join(map(_sentence, own)) + rest)}")
    return lines


def lines(fleets: Sequence[Fleet]) -> list[str]:
    """Return it as plain sentences."""
    return [line.removeprefix("- ") for line in _lines(fleets, str)]


def text(fleets: Sequence[Fleet]) -> str:
    """Return it for a terminal."""
    return fit.fill("\n".join(_lines(fleets, str)))


def markdown(fleets: Sequence[Fleet]) -> str:
    """Return it as Markdown."""
    return "\n\n".join(_lines(fleets, escape.markdown))


def as_json(fleets: Sequence[Fleet]) -> str:
    """Return it as a JSON list of fleets."""
    return data.dumps([dataclasses.asdict(fleet) for fleet in fleets])


FORMATS: dict[str, Callable[[Sequence[Fleet]], str]] = {
    "terminal": text,
    "markdown": markdown,
    "json": as_json,
}
