"""Visit cells again while the budget of a run lasts, those with the widest interval first."""

import dataclasses
import inspect
import math
import statistics
import time
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.exchange.exports import extra_info
from bench.measure import dtypes, state
from bench.measure.cell import Cell
from bench.measure.checks import Result
from bench.measure.disturbance import DisturbanceMonitor
from bench.measure.kernels import ReferenceKernel
from bench.measure.rounds import Plan
from bench.measure.visits import Judged, judge
from bench.plugin import rows
from bench.plugin.options import Run
from bench.records.schema import Row
from bench.report import reasons

now_s = time.perf_counter
#: A cell is visited again after this many seconds at the earliest: disturbances last that long.
PAUSE_S = 2.0
#: Visits end when no interval is wider than this, without what processes differ.
NARROW = 1.02
#: The interval of a single visit counts as this wide at least: something that no reference kernel
#: shows may have disturbed the visit, and only another visit can find out.
HIDDEN = 1.1
#: Share of unstable cells above which the longer budget of a busy machine applies.
MANY = 0.2
#: Seconds between two looks at the reference kernels while they promise no narrower interval.
LOOK_S = 0.05
#: A visit that took less than this costs as much as one that took this long.
SHORTEST_S = 0.02
#: Seconds between two updates of the file.
UPDATE_S = 15.0
#: Readings of a reference kernel at the start of a run, and at its end, of which the median counts.
READINGS = 5


@dataclass
class Timed:
    """A cell that has been visited once, and what later visits need.

    `entry` is its entry of pytest-benchmark. `cost_s` is the wall time of its last visit.
    """

    item: pytest.Function
    result: Result
    status: str
    reason: str
    entry: Any
    plan: Plan
    visited: float = field(default_factory=lambda: now_s())
    cost_s: float = 0.0
    width: float = math.inf

    def judge(self, run: Run) -> Judged:
        """Judge all visits with the best times of the reference kernels that are known now."""
        judged = judge(self.result.visits, run.kernels)
        self.width = judged.width_within
        if self.status in ("ok", "unstable"):
            self.status, self.reason = rows.outcome(self.result, run, judged)
        return judged

    def row(self, run: Run) -> Row:
        """Return the row; pytest-benchmark's entry becomes that of all visits too."""
        judged = self.judge(run)
        made = rows.row(self.item, run, self.status, self.reason, self.result, judged)
        if self.entry is not None:
            rows.hand_over(self.entry, judged.rounds_s, self.result.visits[0].iterations)
            self.entry.extra_info.update(extra_info(dataclasses.asdict(made)))
        return made

    @property
    def doubt(self) -> float:
        """By which factor another visit may narrow or correct the interval."""
        return max(self.width, HIDDEN) if len(self.result.visits) == 1 else self.width

    def gain(self, losses: Mapping[str, float]) -> float:
        """Return how much narrower a visit can make the interval now, per second spent on the cell.

        A visit cannot remove the loss that the reference kernels show now.
        """
        used = self.result.visits[-1].kernels_s
        left = NARROW * max((losses[name] for name in used if name in losses), default=1.0)
        spent_s = len(self.result.visits) * max(self.cost_s, SHORTEST_S)
        return math.log(self.doubt / left) / spent_s


#: The cells of a run that were timed, in the order of their first visits.
TIMED = pytest.StashKey[list[Timed]]()


def make_cell(item: pytest.Function, run: Run, plan: Plan | None, **more: Any) -> Cell:
    """Return the cell that an item times; `more` are further arguments of `Cell`."""
    given = rows.given(item)
    return Cell(
        run.devices[given["device"]],
        dtypes.find(given["dtype"]),
        plan,
        clock_cost_s=run.clock_cost_s.get(given["device"], 0.0),
        reference=run.kernels,
        unpinned=run.placement.unpinned,
        data_root=run.data_root,
        download=run.download,
        **more,
    )


def repeatable(item: pytest.Function) -> bool:
    """Whether a benchmark needs nothing but its cell and its params: all else has been undone."""
    known = {"cell", "benchmark", "request", *rows.given(item)}
    return set(item.fixturenames) <= known and item.cls is None


def visit(timed: Timed, run: Run) -> None:
    """Make the data of a cell and time its call once more."""
    started = now_s()
    cell = make_cell(timed.item, run, timed.plan, earlier=timed.result)
    given = {"cell": cell, **rows.given(timed.item)}
    wanted = inspect.signature(timed.item.function).parameters
    try:
        with state.kept(cell.close) as changed:
            timed.item.function(**{name: value for name, value in given.items() if name in wanted})
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as raised:  # as at the first visit: what fails once has failed
        timed.status, timed.reason = rows.of_exception(raised)
        run.outcomes[timed.item.nodeid] = timed.status
        traceback.clear_frames(raised.__traceback__)
    known = timed.item.stash[rows.CHANGED]
    known += [part for part in changed if part not in known]
    timed.visited = now_s()
    timed.cost_s = timed.visited - started


def _many_are_unstable(cells: Sequence[Timed]) -> bool:
    return sum(timed.status == "unstable" for timed in cells) > MANY * len(cells)


def until_spent(run: Run, cells: Sequence[Timed], spent_s: float) -> None:
    """Visit cells again until the budget is spent, or all intervals are narrow.

    The file has the rows of the first visits; it is updated now and then, and at the end.
    """
    started = updated = now_s()
    budgets_s = run.budget_of(len(cells)), run.busy_budget_of(len(cells))
    for timed in cells:
        timed.judge(run)
    monitor = DisturbanceMonitor(run.kernels)
    candidates = [timed for timed in cells if repeatable(timed.item)]
    try:
        while (now := now_s()) < (end := started - spent_s + budgets_s[_many_are_unstable(cells)]):
            wide = [t for t in candidates if t.doubt > NARROW and t.status in ("ok", "unstable")]
            ready = [t for t in wide if t.visited + PAUSE_S <= now and now + t.cost_s <= end]
            if not ready:
                waiting = [t.visited + PAUSE_S for t in wide if now + PAUSE_S + t.cost_s <= end]
                if not waiting:
                    break
                time.sleep(max(0.0, min(waiting) - now))
                continue
            losses = monitor.losses()
            gains = {timed.item.nodeid: timed.gain(losses) for timed in ready}
            chosen = max(ready, key=lambda timed: gains[timed.item.nodeid])
            if gains[chosen.item.nodeid] <= 0:
                time.sleep(LOOK_S)
                continue
            run.visiting(chosen.item, end - now)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they were shown at the first visit
                visit(chosen, run)
            chosen.judge(run)
            if chosen.visited > updated + UPDATE_S:
                update(run, cells)
                updated = chosen.visited
    finally:
        monitor.times.close()
        update(run, cells)


def update(run: Run, cells: Sequence[Timed]) -> None:
    """Replace the rows of the cells in the file of the run by those of all visits."""
    assert run.writer
    run.writer.replace([timed.row(run) for timed in cells])


def heated(cells: Sequence[Timed], known: Iterable[ReferenceKernel]) -> list[str]:
    """Return a line on each accelerator that was notably slower at the end: it slows down when hot.

    `cells` are in the order of their first visits.
    """
    first = [timed.result.visits[0] for timed in cells]
    last = [t.result.visits[-1] for t in sorted(cells, key=lambda timed: timed.visited)]
    found = []
    for kernel in known:
        early, late = (
            [one.kernels_s[kernel.name] for one in visits if kernel.name in one.kernels_s]
            for visits in (first, last)
        )
        if not kernel.device or min(len(early), len(late)) < 2 * READINGS:
            continue
        start, end = statistics.median(early[:READINGS]), statistics.median(late[-READINGS:])
        if end >= kernel.limit * start:
            found.append(reasons.heated(kernel.device, end / start))
    return found
