"""Settings of the gate: options, and ``[tool.bench.check]`` of a pyproject.toml."""

import tomllib
from pathlib import Path
from typing import Any

from bench.gate.check import Limits
from bench.records import choices, files
from bench.records.choices import UserError

#: More than any sensible percentage, number of seconds, or bytes of a pyproject.toml.
LARGEST = 1_000_000


class BadSettings(UserError, ValueError):
    """A setting is wrong; the message is one line for the user."""


def _table(path: Path) -> dict[str, Any]:
    """Return the table of a file, empty where there is none."""
    try:
        whole = tomllib.loads(files.read_bytes(path, LARGEST).decode())
    except FileNotFoundError:
        return {}
    except RecursionError:
        raise BadSettings(f"{path}: nested too deeply; correct the file") from None
    except (OSError, ValueError) as problem:
        raise BadSettings(f"{path}: {problem}; correct the file") from problem
    found, names = whole, ("tool", "bench", "check")
    for depth, name in enumerate(names, 1):
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise BadSettings(f"{path}: {'.'.join(names[:depth])} is not a table")
    return found


def number(name: str, value: object) -> float:
    """Return a setting as a number; NaN and infinity would let everything pass.

    Raises BadSettings, which calls it `name`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LARGEST:
        what = f"give a number, 0 or more and less than {LARGEST:,}"
        raise BadSettings(f"{name} is {value!r}; {what}")
    return float(value)


def limits(
    threshold: float | None = None,
    margin: float | None = None,
    floor_s: float | None = None,
    min_judged: float | None = None,
    path: Path = Path("pyproject.toml"),
) -> Limits:
    """Return the limits of the gate, percent as shares; options win over the file in this folder.

    The file may hold ``threshold``, ``margin``, ``floor`` (seconds), ``min-judged``, and a table
    ``thresholds`` from family or benchmark to percent. Raises BadSettings.
    """
    table, where = _table(path), f"{path}: tool.bench.check"
    known = ("threshold", "margin", "floor", "min-judged", "thresholds")
    if fault := choices.unknown(table, known):
        raise BadSettings(f"{where}: {fault}")
    several = table.get("thresholds", {})
    if not isinstance(several, dict):
        raise BadSettings(f"{where}.thresholds is not a table")
    default = Limits()

    def value(given: float | None, name: str, unset: float, scale: float) -> float:
        if given is not None:
            return number(f"--{name}", given) / scale
        return number(f"{where}.{name}", table[name]) / scale if name in table else unset

    return Limits(
        threshold=value(threshold, "threshold", default.threshold, 100),
        margin=value(margin, "margin", default.margin, 100),
        floor_s=value(floor_s, "floor", default.floor_s, 1),
        min_judged=value(min_judged, "min-judged", default.min_judged, 100),
        thresholds={k: number(f"{where}.thresholds.{k}", v) / 100 for k, v in several.items()},
    )
