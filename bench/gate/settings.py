"""Settings of the gate: options, and ``[tool.bench.check]`` of a pyproject.toml."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.records import choices, files
from bench.records.choices import UserError
from bench.records.schema import CellKey

#: From so many runs of the baseline, in the candidate's session, the noise of a cell is known.
KNOWN_RUNS = 15

#: More than any sensible percentage, number of seconds, or bytes of a pyproject.toml.
LARGEST = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What counts as a regression.

    `alpha`: chance of a false alarm in a whole suite; `margin`: change that the test allows;
    `threshold`: change from which a cell fails; `known`: the same for a cell whose noise is known;
    `thresholds`: the same for a family or benchmark; `floor_s`: change in seconds below which
    nothing fails; `min_judged`: share of the cells that must be judged.
    """

    threshold: float = 0.05
    known: float = 0.03
    margin: float = 0.02
    alpha: float = 0.05
    floor_s: float = 1e-6
    min_judged: float = 0.8
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def of(self, key: CellKey, runs: int = 0) -> tuple[float, float]:
        """Return the threshold of a cell and the margin.

        It is that of the benchmark, of the family, or the general one. `runs` is how many the
        baseline has, 0 if none of them is of the candidate's session. From `KNOWN_RUNS` runs on,
        the general one is `known`, and the margin at most half of it.
        """
        sharp = runs >= KNOWN_RUNS and self.known < self.threshold
        general = self.known if sharp else self.threshold
        threshold = self.thresholds.get(key.benchmark, self.thresholds.get(key.family, general))
        return threshold, min(self.margin, self.known / 2) if sharp else self.margin


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

    given = value(threshold, "threshold", math.nan, 100)
    return Limits(
        threshold=default.threshold if math.isnan(given) else given,
        known=default.known if math.isnan(given) else given,
        margin=value(margin, "margin", default.margin, 100),
        floor_s=value(floor_s, "floor", default.floor_s, 1),
        min_judged=value(min_judged, "min-judged", default.min_judged, 100),
        thresholds={k: number(f"{where}.thresholds.{k}", v) / 100 for k, v in several.items()},
    )
