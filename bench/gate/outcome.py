"""What the gate decides: the verdict of each cell, which verdicts fail, and the exit status."""

from dataclasses import dataclass

from bench.gate.reason import Reason
from bench.gate.shift import Place, Shift
from bench.gate.states import FEWEST_RUNS
from bench.records.schema import CellKey

VERDICTS = (
    *("regressed", "errored", "missing", "incomparable"),
    *("inconclusive", "improved", "new", "negligible", "same"),
)
#: An inconclusive cell was judged if its runs could have shown a slowdown by this share.
SHOWN = 0.25


@dataclass(frozen=True)
class Judged:
    """A cell and its verdict; `change` is relative (0.1 is 10 % slower), with its 95 % interval."""

    key: CellKey
    verdict: str
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: Reason | None = None

    @property
    def judged(self) -> bool | None:
        """Return whether the runs could have shown a slowdown by `SHOWN`; None if none was asked.

        None was asked of cells that a side lacks or that both sides refuse.
        """
        if self.verdict in ("missing", "new") or (self.verdict == "same" and self.change is None):
            return None
        if self.verdict != "inconclusive":
            return self.verdict != "incomparable"
        known = self.change is not None and self.high is not None
        return known and (1 + self.high) <= (1 + SHOWN) * (1 + self.change)  # type: ignore[operator]


@dataclass(frozen=True)
class Outcome:
    """All cells, shifts by device and dtype, other differences, and the verdicts that fail.

    `failing` holds `incomparable` if the sides cannot be compared, and is empty if all verdicts
    are advice. At least the share `min_judged` of the cells must be judged.
    """

    cells: list[Judged]
    shifts: dict[Place, Shift]
    runs: tuple[int, int]
    notes: list[Reason]
    failing: frozenset[str]
    min_judged: float = 0.0

    @property
    def judged(self) -> tuple[int, int]:
        """Return how many cells were judged, and how many could have been."""
        asked = [cell.judged for cell in self.cells if cell.judged is not None]
        return sum(asked), len(asked)

    @property
    def unfit(self) -> bool:
        """Return whether too few cells were judged to pass."""
        judged, cells = self.judged
        decides = "regressed" in self.failing and "incomparable" not in self.failing
        return decides and judged < self.min_judged * cells

    @property
    def failed(self) -> list[str]:
        """Return the failing verdicts that a cell has, the worst first."""
        return [verdict for verdict in VERDICTS if verdict in self.failing and self.count(verdict)]

    @property
    def code(self) -> int:
        """Return the exit status.

        3 if the sides are incomparable, 1 if cells fail, 3 if too few were judged, and 4 if cells
        are missing and no other fails.
        """
        if "incomparable" in self.failing:
            return 3
        if set(self.failed) - {"missing"}:
            return 1
        return 3 if self.unfit else 4 if self.failed else 0

    def count(self, verdict: str) -> int:
        """Return how many cells have that verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)


def failing_verdicts(
    comparable: bool,
    runs: tuple[int, int],
    allow_missing: bool,
    fail_on_improvement: bool,
    wrong: bool,
) -> frozenset[str]:
    """Return the verdicts that fail: of few runs only errors, and only if an answer is `wrong`."""
    failing = {"errored"} if wrong else set()
    if min(runs) >= FEWEST_RUNS:
        failing = {"regressed", "errored"}
        failing |= set() if allow_missing else {"missing"}
        failing |= {"improved"} if fail_on_improvement else set()
    return frozenset(failing if comparable else failing | {"incomparable"})


def ordered(cells: list[Judged]) -> list[Judged]:
    """Return the cells sorted by verdict, the worst first, then by change."""
    return sorted(cells, key=lambda c: (VERDICTS.index(c.verdict), -(c.change or 0), c.key))
