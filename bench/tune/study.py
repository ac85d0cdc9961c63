"""The file of a search, from which it goes on: data only, which choose no program or option."""

import dataclasses
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from bench.records.files import read_json, replace
from bench.tune.search import CannotTune, S, Search, Trial


@dataclass
class Study(Generic[S]):
    """A search in `file`; `options` are the words it was started with, `machine` where it ran.

    `proof` holds the runs of fresh processes by side, each with its seconds and losses.
    """

    file: Path
    options: Sequence[str]
    machine: str
    trials: list[Trial[S]] = field(default_factory=list)
    winner: S | None = None
    proof: dict[str, list[dict[str, list[float]]]] = field(default_factory=dict)

    def keep(self, search: Search[S]) -> None:
        """Write the trials of a search."""
        self.trials = list(search.trials.values())
        self.write()

    def write(self) -> None:
        """Replace the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        made = dataclasses.asdict(self) | {"file": "bench tune"}
        replace(self.file, json.dumps(made, indent=1) + "\n")


def _numbers(values: Any) -> list[float]:
    """Return a list of numbers above 0; ValueError for anything else."""
    found = [float(value) for value in values]
    if not all(0 < value < math.inf for value in found):
        raise ValueError("not a positive number")
    return found


def resume(file: Path, options: Sequence[str], machine: str, settings: Iterable[S]) -> Study[S]:
    """Read a study; CannotTune unless it was started with these options on this machine.

    A setting in it only chooses among `settings`.
    """
    known: Mapping[Any, S] = {
        tuple(dataclasses.asdict(setting).items()): setting  # type: ignore[call-overload]
        for setting in settings
    }
    study: Study[S] = Study(file, options, machine)
    try:
        stored = read_json(file)
        for one in stored["trials"]:
            values = _numbers(one["screened"]), _numbers(one["compared"])
            setting = known.get(tuple(one["setting"].items()))
            if setting is not None:
                study.trials.append(Trial(setting, *values, str(one["reason"])))
        if stored["winner"]:
            study.winner = known.get(tuple(stored["winner"].items()))
            study.proof = {
                str(side): [{name: _numbers(run[name]) for name in run} for run in runs]
                for side, runs in stored["proof"].items()
            }
        before, place = [str(word) for word in stored["options"]], str(stored["machine"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "not written by bench tune"
        raise CannotTune(f"--resume: {file}: {what}; give the file of an earlier search") from None
    if before != list(options):
        words = shlex.join(before) or "no options"
        raise CannotTune(f"--resume: {file} was started with {words}; give the same options")
    if place != machine:
        raise CannotTune(f"--resume: {file} is of another machine or torch ({place})")
    return study
