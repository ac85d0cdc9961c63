"""Compare two sides in interleaved fresh processes: screen all cells, confirm the suspects.

The screen times every cell in a few processes per side. Cells whose times differ by more than a
share of the threshold are suspects. More fresh processes time these again, and only those runs
judge them: the noise of the screen partly chose the suspects, and the new runs do not share it.

One folder holds all files, so that a comparison can be resumed and inspected: ``baseline.csv`` and
``candidate.csv`` of the screen, ``suspects.csv``, and ``confirm-*.csv`` of both sides.
"""

import contextlib
import csv
import dataclasses
import json
import random
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.compare import files as stored_files
from bench.compare.cells import grouped
from bench.compare.observations import Observations
from bench.gate import check, comparable, screen, shift
from bench.gate.outcome import Outcome
from bench.gate.settings import Limits
from bench.launch import runner, sides
from bench.launch.command import CannotRun, Installation
from bench.launch.process import Listener
from bench.launch.sides import Side
from bench.records import reader, schema
from bench.records.files import read_json, replace
from bench.records.schema import CellKey

SIDES = ("baseline", "candidate")
ORDERS = ("abba", "random")


@dataclass(frozen=True)
class Plan:
    """What is timed (arguments for pytest), in how many runs a side, and in which order."""

    arguments: tuple[str, ...] = ()
    screen: int = 3
    confirm: int = 5
    order: str = "abba"
    seed: int = 0

    def sequence(self, runs: int) -> list[str]:
        """Return the order of the sides, each `runs` times; more runs extend the same order."""
        source = random.Random(self.seed)
        turns = []
        for turn in range(runs):
            swapped = turn % 2 == 1 if self.order == "abba" else source.random() < 0.5
            turns.append(SIDES[::-1] if swapped else SIDES)
        return [side for turn in turns for side in turn]


def _in_stage(listener: Listener, number: int, side: str) -> Listener:
    """Return what reports the progress of process `number` of a stage."""

    def report(**event: Any) -> None:
        if "message" in event:
            listener(message=f"{side}: {event['message']}")
        else:
            listener(**event | {"run": number})

    return report


def _stage(
    sequence: Sequence[str],
    places: Mapping[str, Installation],
    files: Mapping[str, Path],
    arguments: Mapping[str, Sequence[str]],
    listener: Listener,
    ended: int = 0,
) -> None:
    """Run the processes of a stage that are missing in its files; the first `ended` are complete.

    Raises CannotRun if a process does not complete.
    """
    for file in files.values():
        if file.exists() and not file.stat().st_size:  # killed before its header
            file.unlink()
    started = {
        side: reader.read(file).run_id.nunique() if file.exists() else 0
        for side, file in files.items()
    }
    for number, side in enumerate(sequence, 1):
        turn = sequence[:number].count(side)
        if turn < started[side] or number <= ended:
            continue
        file = files[side]
        given, reported = list(arguments[side]), _in_stage(listener, number, side)
        if turn == started[side]:  # the last run of this side, which may have been interrupted
            code, wrote = runner.run(given, turn, None, file, reported, places[side])
        else:
            place, more = places[side], file.exists()
            code, wrote = runner.run(given, 1, file, None, reported, place, append=more)
        if wrote and wrote != file:
            raise CannotRun(f"{file} was changed by another program while it was written to")
        if code in (runner.STOPPED, pytest.ExitCode.INTERRUPTED):
            raise (runner.Stopped if code == runner.STOPPED else CannotRun)(
                f"the {side} was stopped; what was measured is kept: "
                f"continue with --resume {file.parent} and the same options"
            )
        if code not in (0, 1):  # 1: a cell failed, and its row has the reason
            raise CannotRun(f"the {side} did not complete (pytest's exit status {code})")


def _options(
    both: Sequence[Side], plan: Plan, limits: Limits, settings: Mapping[str, bool]
) -> list[str]:
    """Return what is compared, and how it is judged, as options; of variables only the names."""
    words = []
    for name, side in zip(SIDES, both, strict=True):
        words += [f"--{name}-python={side.python}"] if side.python else []
        words += [f"--{name}-env={variable}=..." for variable in sorted(side.env)]
        words += [f"--{name}-ref={side.ref}"] if side.ref else []
        words += [f"--{name}-threads={side.threads}"] if side.threads else []
    known = {"screen-runs": plan.screen, "confirm-runs": plan.confirm, "order": plan.order}
    known |= {name.replace("_", "-"): value for name, value in dataclasses.asdict(limits).items()}
    del known["known"]  # follows from the threshold
    words += [f"--{name}={value}" for name, value in known.items()]
    words += [f"--{name.replace('_', '-')}" for name, given in sorted(settings.items()) if given]
    return [*words, *plan.arguments]


def same(
    folder: Path, both: Sequence[Side], plan: Plan, limits: Limits, settings: Mapping[str, bool]
) -> None:
    """Raise CannotRun unless a comparison in `folder` was started with these options.

    A file must not choose a program, a variable or an option, so the user gives all of them again.
    """
    pinned = [sides.pinned(side, name) for name, side in zip(SIDES, both, strict=True)]
    given = _options(pinned, plan, limits, settings)
    try:
        stored = [str(word) for word in read_json(folder / "ab.json")["options"]]
    except (OSError, ValueError, TypeError, KeyError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "not written by bench ab"
        remedy = "give the folder of an earlier bench ab"
        raise CannotRun(f"--resume: {folder / 'ab.json'}: {what}; {remedy}") from problem
    if given != stored:
        changed = [word for word in stored if word not in given] or ["no such options"]
        raise CannotRun(
            f"--resume: {folder} was started with {shlex.join(changed)}; give the same options"
        )


@contextlib.contextmanager
def _prepared(both: Mapping[str, Side], folder: Path) -> Iterator[dict[str, Installation]]:
    """Prepare both sides, and make the `folder` of their files; remove their copies at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-ab-") as made:
        try:
            places = {}
            for name, side in both.items():
                (Path(made) / name).mkdir()
                places[name] = sides.prepare(side, name, Path(made) / name)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                what = f"cannot make {folder}: {problem.strerror}"
                raise CannotRun(f"{what}; name another folder with --folder") from problem
            yield places
        finally:
            sides.clean(Path(made))


def _arguments(both: Mapping[str, Side], *arguments: str) -> dict[str, list[str]]:
    """Return the arguments of pytest on each side."""
    return {
        name: [*arguments, *([f"--threads={side.threads}"] if side.threads else [])]
        for name, side in both.items()
    }


def _confirm(
    cells: Iterable[CellKey],
    plan: Plan,
    both: Mapping[str, Side],
    places: Mapping[str, Installation],
    folder: Path,
    listener: Listener,
) -> dict[str, pd.DataFrame]:
    """Time these cells in fresh processes of each side; return the rows of each side.

    If a cell was unstable in some runs, up to twice as many runs follow, until it has enough times.
    """
    with (folder / "suspects.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([schema.CELL, *sorted(set(cells))])
    files = {side: folder / f"confirm-{side}.csv" for side in places}
    arguments = _arguments(both, *plan.arguments, f"--cells={folder / 'suspects.csv'}")
    ended = 0
    for runs in range(plan.confirm, 2 * plan.confirm + 1):
        sequence = [side for side in plan.sequence(runs) if side in places]
        listener(stage="confirm", runs=len(sequence))
        _stage(sequence, places, files, arguments, listener, ended)
        ended = len(sequence)
        rows = {side: _rows(file) for side, file in files.items()}
        if all(_enough(frame, plan.confirm) for frame in rows.values()):
            break
    return rows


def _rows(file: Path) -> pd.DataFrame:
    """Return the rows of a file, without control characters for a terminal."""
    return stored_files.printable(reader.read(file, strict=True))


def _enough(frame: pd.DataFrame, runs: int) -> bool:
    """Whether every cell that was unstable has been timed in `runs` runs at least."""
    seen = Observations.of(frame)
    unstable = (key for key, statuses in seen.statuses.items() if "unstable" in statuses)
    return all(seen.count(key) >= runs for key in unstable)


def run(
    both: Sequence[Side],
    plan: Plan,
    limits: Limits,
    folder: Path,
    listener: Listener,
    **settings: bool,
) -> Outcome:
    """Compare two sides; runs that `folder` already holds are not repeated.

    The sides may differ in everything: the user asked for it. Nothing counts as a shift of the
    machine, since the processes of both sides alternate. `settings` are those of `screen.settle`.
    The listener also gets ``stage=, runs=`` when a stage of so many processes starts.

    Raises CannotRun, BadFile.
    """
    named = {name: sides.pinned(side, name) for name, side in zip(SIDES, both, strict=True)}
    with _prepared(named, folder) as places:
        options = {"options": _options(list(named.values()), plan, limits, settings)}  # for `same`
        replace(folder / "ab.json", json.dumps(options, indent=1) + "\n")
        what = "; ".join(f"{name}: {side.label}" for name, side in named.items())
        listener(message=f"{what}; in {folder}")
        files = {side: folder / f"{side}.csv" for side in SIDES}
        listener(stage="screen", runs=2 * plan.screen)
        arguments = _arguments(named, *plan.arguments)
        _stage(plan.sequence(plan.screen), places, files, arguments, listener)
        old, new = (_rows(files[side]) for side in SIDES)
        first = check.check(old, new, limits, comparable.HARD, one_machine=True)
        suspects = screen.suspects(old, new, limits, one_machine=True)
        if not suspects:
            return screen.settle(first, None, suspects, **settings)
        listener(message=f"{len(suspects)} of {len(first.cells)} cells to confirm")
        fresh = _confirm(suspects, plan, named, places, folder, listener)
        old, new = (fresh[side] for side in SIDES)
        second = check.check(old, new, limits, comparable.HARD, one_machine=True)
        return screen.settle(first, second, suspects, **settings)


def recheck(
    stored: tuple[pd.DataFrame, pd.DataFrame],
    outcome: Outcome,
    both: Sequence[Side],
    plan: Plan,
    limits: Limits,
    folder: Path,
    listener: Listener,
    vary: Sequence[str] = (),
    **settings: bool,
) -> Outcome:
    """Confirm the suspects of a comparison of stored files in fresh runs of the candidate.

    If the baseline has a Python, variables or a ref, fresh runs time it too. Otherwise its stored
    runs are used. Then some control cells, which are no suspects, are timed as well and show a
    shift of the machine. P-values stay corrected for all cells, because the stored runs chose the
    suspects.

    Raises CannotRun, BadFile.
    """
    suspects = screen.suspects(*stored, limits)
    if not suspects:
        return screen.settle(outcome, None, suspects, **settings)
    named = dict(zip(SIDES, both, strict=True))
    if not both[0].given:
        del named["baseline"]
    cells = suspects | (set() if both[0].given else _controls(outcome, suspects))
    arguments = (*plan.arguments, *_as_stored(stored[1], cells))
    plan = dataclasses.replace(plan, arguments=arguments)
    listener(message=f"{len(suspects)} of {len(outcome.cells)} cells to confirm, in {folder}")
    with _prepared(named, folder) as places:
        fresh = _confirm(cells, plan, named, places, folder, listener)
    if both[0].given:
        old = fresh["baseline"]
        second = check.check(old, fresh["candidate"], limits, vary, one_machine=True)
    else:
        old = stored[0][[key in cells for key in schema.cell_keys(stored[0])]]
        tests = sum(cell.p is not None for cell in outcome.cells)
        controls = cells - suspects
        second = check.check(old, fresh["candidate"], limits, vary, controls=controls, tests=tests)
    return screen.settle(outcome, second, suspects, **settings)


def _as_stored(frame: pd.DataFrame, cells: set[CellKey]) -> list[str]:
    """Return the arguments that time these cells on the devices and threads of a stored file."""
    devices = [f"--device={name}" for name in sorted({key.device for key in cells})]
    counts = frame.threads.dropna().unique()
    return [*devices, *(f"--threads={count}" for count in counts if len(counts) == 1)]


def _controls(outcome: Outcome, suspects: set[CellKey]) -> set[CellKey]:
    """Return some cells of every device and dtype that are no suspects, always the same ones."""
    source, found = random.Random(0), set[CellKey]()
    others = {cell.key for cell in outcome.cells if cell.change is not None} - suspects
    for group in grouped(sorted(others), lambda key: key.place).values():
        found.update(source.sample(group, min(len(group), 2 * shift.SHIFT_CELLS)))
    return found
