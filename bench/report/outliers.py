"""Machines that are not like the others, in sentences or for a program."""

import dataclasses
import json
from collections.abc import Callable, Sequence

from bench.compare.outliers import FEWEST, Fleet, Outlier
from bench.report import escape


def sentence(one: Outlier) -> str:
    """Return what is off, in words."""
    way = "slower" if one.change > 0 else "faster"
    where = f" {one.where}" if one.where else ""
    return (
        f"{one.machine}: {one.what} on {one.device}{where} {abs(one.change):.0%} {way} "
        f"than the other {one.others} ({one.cells} of {one.of} cells)"
    )


def _lines(fleets: Sequence[Fleet], bullet: str, as_text: Callable[[str], str]) -> list[str]:
    if not fleets:
        return [f"no hardware with {FEWEST} machines or more: nothing to stand out of"]
    lines = []
    for fleet in fleets:
        off = {one.machine for one in fleet.outliers}
        said = f"{fleet.machines} machines with {fleet.hardware}: "
        said += f"{len(off)} off" if off else f"all alike in {fleet.cells} cells"
        lines.append(as_text(said))
        for machine in dict.fromkeys(one.machine for one in fleet.outliers):
            own = [one for one in fleet.outliers if one.machine == machine]
            said = "; ".join(
                sentence(one).removeprefix(f"{machine}: " if place else "")
                for place, one in enumerate(own)
            )
            rest = "" if any(one.what == "everything" for one in own) else "; the rest is normal"
            lines.append(f"{bullet}{as_text(said + rest)}")
    return lines


def text(fleets: Sequence[Fleet]) -> str:
    """Return it for a terminal."""
    return "\n".join(_lines(fleets, "- ", str))


def markdown(fleets: Sequence[Fleet]) -> str:
    """Return it as Markdown."""
    return "\n\n".join(_lines(fleets, "- ", escape.markdown))


def as_json(fleets: Sequence[Fleet]) -> str:
    """Return it as a JSON list of fleets."""
    return json.dumps([dataclasses.asdict(fleet) for fleet in fleets], indent=1)


FORMATS: dict[str, Callable[[Sequence[Fleet]], str]] = {
    "terminal": text,
    "markdown": markdown,
    "json": as_json,
}
