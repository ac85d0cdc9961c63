"""Remember which cells a run has to time until it ends, so that --resume knows them.

The file is beside the CSV. Nothing in it is executed: it holds names of cells and of a profile.
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.measure import profiles
from bench.records.files import read_json, replace
from bench.records.schema import CellKey


class Unfinished(NamedTuple):
    """What an interrupted run had to do."""

    run_id: str
    profile: str
    cells: frozenset[CellKey]


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.unfinished")


def write(file: Path, run_id: str, profile: str, cells: Iterable[CellKey]) -> None:
    """Store what the run that writes `file` has to do; without it, --resume needs the options."""
    known = {"run_id": run_id, "profile": profile, "cells": sorted(cells)}
    with contextlib.suppress(OSError):
        replace(_beside(file), json.dumps(known))


def read(file: Path) -> Unfinished | None:
    """Return what the last run of `file` had to do, None if that is not known."""
    try:
        known = read_json(_beside(file))
        cells = frozenset(CellKey(*map(str, cell)) for cell in known["cells"])
        made = Unfinished(str(known["run_id"]), str(known["profile"]), cells)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return made if made.profile in profiles.PROFILES else None


def remove(file: Path) -> None:
    """Remove the file: the run has ended."""
    with contextlib.suppress(OSError):
        _beside(file).unlink(missing_ok=True)
