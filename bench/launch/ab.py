"""Screen all cells of two sides in a few interleaved processes, confirm what looks different.

In the screen every cell is timed in some fresh processes a side. The cells whose times differ by
more than a share of the threshold are timed again, in more fresh processes, and judged on those
alone: they were picked for their noise too, which the new runs do not share.

Everything lies in one folder, so that it can be gone on with and looked into: ``baseline.csv`` and
``candidate.csv`` of the screen, ``suspects.csv``, and both sides' ``confirm-*.csv``.
"""

import contextlib
import csv
import dataclasses
import json
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from bench.compare import files as stored_files
from bench.compare import observations
from bench.gate import check, screen, shift
from bench.gate.check import Limits, Outcome
from bench.launch import runner, sides
from bench.launch.runner import CannotRun, Place
from bench.launch.sides import Side
from bench.records import reader, schema
from bench.stats.moderated import Key

SIDES = ("baseline", "candidate")
ORDERS = ("abba", "random")
#: Fresh processes a side in the screen, and to confirm.
SCREEN, CONFIRM = 3, 5


class Watcher(runner.Watcher, Protocol):
    """Is told what the processes do, and which stage they belong to."""

    def stage(self, name: str, runs: int) -> None:
        """A stage of `runs` processes begins."""


@dataclass(frozen=True)
class Plan:
    """What is timed (words for pytest), how often a side, and in which order."""

    words: tuple[str, ...] = ()
    screen: int = SCREEN
    confirm: int = CONFIRM
    order: str = "abba"
    seed: int = 0

    def sequence(self, runs: int) -> list[str]:
        """Return which side comes when; each comes `runs` times, and more go on with fewer."""
        source = random.Random(self.seed)
        turns = []
        for turn in range(runs):
            swapped = turn % 2 == 1 if self.order == "abba" else source.random() < 0.5
            turns.append(SIDES[::-1] if swapped else SIDES)
        return [side for turn in turns for side in turn]


@dataclass
class _Following:
    """Tells a watcher the number of the process among all of its stage."""

    watcher: Watcher
    number: int
    side: str

    def begins(self, run: int, done: int, total: int, cell: dict[str, Any]) -> None:
        self.watcher.begins(self.number, done, total, cell)

    def says(self, line: str) -> None:
        self.watcher.says(f"{self.side}: {line}")


def _begun(file: Path) -> int:
    """Return how many runs have rows in a file."""
    return int(reader.read(file).run_id.nunique()) if file.exists() else 0


def _stage(
    sequence: Sequence[str],
    places: Mapping[str, Place],
    files: Mapping[str, Path],
    words: Mapping[str, Sequence[str]],
    watcher: Watcher,
    ended: int = 0,
) -> None:
    """Run the processes of a stage that its files lack; CannotRun where one does not end well.

    The first `ended` of them are known to be complete.
    """
    for file in files.values():
        if file.exists() and not file.stat().st_size:  # killed before its header
            file.unlink()
    begun = {side: _begun(file) for side, file in files.items()}
    done = sum(begun.values())
    for number, side in enumerate(sequence, 1):
        if number < done or number <= ended:
            continue
        file = files[side]
        following = _Following(watcher, number, side)
        if number == done:  # the last that was begun, perhaps cut off
            code, _ = runner.run(
                list(words[side]), begun[side], None, file, following, places[side]
            )
        else:
            code, _ = runner.run(
                list(words[side]), 1, file, None, following, places[side], append=file.exists()
            )
        if code not in (0, 1):  # 1: a cell failed, and its row says so
            raise CannotRun(f"the {side} did not run to its end (pytest's exit status {code})")


def _write_cells(path: Path, cells: Iterable[Key]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(schema.CELL)
        writer.writerows(sorted(cells))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        what = f"cannot make {folder}: {problem.strerror}"
        raise CannotRun(f"{what}; name another folder with --folder") from problem


def _remember(
    folder: Path, both: Sequence[Side], plan: Plan, limits: Limits, settings: Mapping[str, bool]
) -> None:
    """Write down what is compared and how it is judged, so that it can be gone on with."""
    made: dict[str, Any] = {"sides": [dataclasses.asdict(side) for side in both]}
    made |= {"plan": dataclasses.asdict(plan), "limits": dataclasses.asdict(limits)}
    made["settings"] = settings
    # Whole or not at all: without it, no run in the folder could be gone on with.
    half = folder / "ab.json.part"
    half.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    os.replace(half, folder / "ab.json")


def recall(folder: Path) -> tuple[list[Side], Plan, Limits, dict[str, bool]]:
    """Return what was written down; CannotRun where it was not."""
    try:
        made = json.loads((folder / "ab.json").read_text(encoding="utf-8"))
        plan = Plan(**made["plan"] | {"words": tuple(made["plan"]["words"])})
        baseline, candidate = (Side(**side) for side in made["sides"])
        limits, settings = Limits(**made["limits"]), dict(made["settings"])
    except (OSError, ValueError, TypeError, KeyError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "not what bench ab writes"
        remedy = "give the folder of an earlier bench ab"
        raise CannotRun(f"--resume: {folder / 'ab.json'}: {what}; {remedy}") from problem
    return [baseline, candidate], plan, limits, settings


@contextlib.contextmanager
def _prepared(both: Mapping[str, Side]) -> Iterator[dict[str, Place]]:
    """Make the sides ready to run, and clean up behind them."""
    with tempfile.TemporaryDirectory(prefix="bench-ab-") as made:
        try:
            places = {}
            for name, side in both.items():
                (Path(made) / name).mkdir()
                places[name] = sides.prepare(side, name, Path(made) / name)
            yield places
        finally:
            sides.clean(Path(made))


def _words(both: Mapping[str, Side], *words: str) -> dict[str, list[str]]:
    """Return what each side's pytest is given."""
    return {
        name: [*words, *([f"--threads={side.threads}"] if side.threads else [])]
        for name, side in both.items()
    }


def _confirm(
    cells: Iterable[Key],
    plan: Plan,
    both: Mapping[str, Side],
    places: Mapping[str, Place],
    folder: Path,
    watcher: Watcher,
) -> dict[str, pd.DataFrame]:
    """Time these cells in fresh processes of each side; return its rows.

    Where a cell was unstable in some of them, up to twice as many, until it has its times.
    """
    cells = set(cells)
    _write_cells(folder / "suspects.csv", cells)
    files = {side: folder / f"confirm-{side}.csv" for side in places}
    words = _words(both, *plan.words, f"--cells={folder / 'suspects.csv'}")
    ended = 0
    for runs in range(plan.confirm, 2 * plan.confirm + 1):
        sequence = [side for side in plan.sequence(runs) if side in places]
        watcher.stage("confirm", len(sequence))
        _stage(sequence, places, files, words, watcher, ended)
        ended = len(sequence)
        rows = {side: _rows(file) for side, file in files.items()}
        if all(_enough(frame, plan.confirm) for frame in rows.values()):
            break
    return rows


def _rows(file: Path) -> pd.DataFrame:
    """Return the rows of a file, with nothing in them that would steer a terminal."""
    return stored_files.harmless(reader.read(file))


def _enough(frame: pd.DataFrame, runs: int) -> bool:
    """Whether every cell that was unstable has the times of so many runs all the same."""
    times = observations.times(frame)
    unstable = frame.loc[frame.status == "unstable", list(schema.CELL)]
    keys = set(unstable.itertuples(index=False, name=None))
    return all(len(times.get(key, ())) >= runs for key in keys)


def run(
    both: Sequence[Side],
    plan: Plan,
    limits: Limits,
    folder: Path,
    watcher: Watcher,
    **settings: bool,
) -> Outcome:
    """Compare two sides, going on with what `folder` holds of it already.

    What the sides differ in was asked for and is told; nothing is taken for a shift of the
    machine, since the processes of both sides alternate. `settings` are those of `screen.settle`.

    Raises CannotRun, BadFile.
    """
    named = {name: sides.pinned(side, name) for name, side in zip(SIDES, both, strict=True)}
    with _prepared(named) as places:
        _make(folder)
        _remember(folder, list(named.values()), plan, limits, settings)
        told = "; ".join(f"{name}: {side.told()}" for name, side in named.items())
        watcher.says(f"{told}; in {folder}")
        files = {side: folder / f"{side}.csv" for side in SIDES}
        watcher.stage("screen", 2 * plan.screen)
        _stage(plan.sequence(plan.screen), places, files, _words(named, *plan.words), watcher)
        old, new = (_rows(files[side]) for side in SIDES)
        first = check.check(old, new, limits, check.HARD, one_machine=True)
        suspects = screen.suspects(old, new, limits, one_machine=True)
        if not suspects:
            return screen.settle(first, None, suspects, **settings)
        watcher.says(f"{len(suspects)} of {len(first.cells)} cells to confirm")
        fresh = _confirm(suspects, plan, named, places, folder, watcher)
        old, new = (fresh[side] for side in SIDES)
        second = check.check(old, new, limits, check.HARD, one_machine=True)
        return screen.settle(first, second, suspects, **settings)


def recheck(
    stored: tuple[pd.DataFrame, pd.DataFrame],
    outcome: Outcome,
    both: Sequence[Side],
    plan: Plan,
    limits: Limits,
    folder: Path,
    watcher: Watcher,
    vary: Sequence[str] = (),
    **settings: bool,
) -> Outcome:
    """Confirm what a comparison of stored files suspects: on fresh runs of the candidate.

    The baseline is timed anew as well where it differs from this environment; otherwise its
    stored runs stand: some unsuspected cells are timed beside, which alone tell a shift of the
    machine, and p-values stay corrected for all cells, since those runs picked the suspects.

    Raises CannotRun, BadFile.
    """
    suspects = screen.suspects(*stored, limits)
    if not suspects:
        return screen.settle(outcome, None, suspects, **settings)
    named = dict(zip(SIDES, both, strict=True))
    if not both[0].given:
        del named["baseline"]
    cells = suspects | (set() if both[0].given else _controls(outcome, suspects))
    plan = dataclasses.replace(plan, words=(*plan.words, *_as_stored(stored[1], cells)))
    watcher.says(f"{len(suspects)} of {len(outcome.cells)} cells to confirm, in {folder}")
    with _prepared(named) as places:
        _make(folder)
        fresh = _confirm(cells, plan, named, places, folder, watcher)
    old = fresh.get("baseline", _only(stored[0], cells))
    if "baseline" in fresh:
        second = check.check(old, fresh["candidate"], limits, vary, one_machine=True)
    else:
        tests = sum(cell.p is not None for cell in outcome.cells)
        calm = cells - suspects
        second = check.check(old, fresh["candidate"], limits, vary, still=calm, tests=tests)
    return screen.settle(outcome, second, suspects, **settings)


def _as_stored(frame: pd.DataFrame, cells: set[Key]) -> list[str]:
    """Return the words by which these cells are timed as those of a file were."""
    devices = [f"--device={name}" for name in sorted({key[2] for key in cells})]
    counts = frame.threads.dropna().unique()
    return [*devices, *(f"--threads={count}" for count in counts if len(counts) == 1)]


def _controls(outcome: Outcome, suspects: set[Key]) -> set[Key]:
    """Return some unsuspected cells of every device and dtype, the same ones each time."""
    source = random.Random(0)
    places: dict[Key, list[Key]] = {}
    for cell in outcome.cells:
        if cell.change is not None and cell.key not in suspects:
            places.setdefault(cell.key[2:4], []).append(cell.key)
    found: set[Key] = set()
    for group in places.values():
        found.update(source.sample(sorted(group), min(len(group), 2 * shift.SHIFT_CELLS)))
    return found


def _only(frame: pd.DataFrame, cells: set[Key]) -> pd.DataFrame:
    """Return the rows of these cells."""
    keys = zip(*(frame[column] for column in schema.CELL), strict=True)
    return frame[[key in cells for key in keys]]
