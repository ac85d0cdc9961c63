"""Settings of the gate: options, and ``[tool.bench.check]`` of a pyproject.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.records import choices, files
from bench.records.choices import UserError
from bench.records.schema import CellKey

#: From so many runs per side, in one session, the noise of a cell is known.
KNOWN_RUNS = 5

#: More than any sensible percentage, number of seconds, or bytes of a pyproject.toml.
LARGEST = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What counts as a regression.

    `alpha`: chance of a false alarm in a whole suite; `margin`: change that the test allows;
    `threshold`: change from which a cell fails; `known`: threshold and margin of a cell whose noise
    is known and small; `thresholds`: that of a family or benchmark; `floor_s`: change in seconds
    below which nothing fails; `min_judged`: share of the cells that must be judged.
    """

    threshold: float = 0.05
    known: tuple[float, float] = (0.03, 0.01)
    margin: float = 0.02
    alpha: float = 0.05
    floor_s: float = 1e-6
    min_judged: float = 0.8
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def of(self, key: CellKey, known: bool = False) -> tuple[float, float]:
        """Return the threshold of a cell and the margin; `known` says that its noise is.

        The threshold is that of the benchmark, of the family, or the general one.
        """
        general, margin = self.known if known else (self.threshold, self.margin)
        return self.thresholds.get(key.benchmark, self.thresholds.get(key.family, general)), margin


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
            raise BadSettings(f"{path}: {'.'.join(names[:depth])} is not a table; correct the file")
    return found


def number(name: str, value: object) -> float:
    """Return a setting as a number; NaN and infinity would let everything pass.

    Raises BadSettings with the `name` of the setting.
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
        raise BadSettings(f"{where}.thresholds is not a table; correct the file")
    default = Limits()

    def value(given: float | None, name: str, unset: float, scale: float) -> float:
        if given is not None:
            return number(f"--{name}", given) / scale
        return number(f"{where}.{name}", table[name]) / scale if name in table else unset

    # What is given holds for all cells, however well their noise is known.
    least = value(threshold, "threshold", default.known[0], 100)
    excess = value(margin, "margin", default.known[1], 100)
    return Limits(
        threshold=value(threshold, "threshold", default.threshold, 100),
        known=(least, excess),
        margin=value(margin, "margin", default.margin, 100),
        floor_s=value(floor_s, "floor", default.floor_s, 1),
        min_judged=value(min_judged, "min-judged", default.min_judged, 100),
        thresholds={k: number(f"{where}.thresholds.{k}", v) / 100 for k, v in several.items()},
    )
