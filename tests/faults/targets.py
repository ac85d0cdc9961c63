"""What is read besides result CSVs, each damaged in turn: rosters, studies, caches, settings.

A target gets a source of random numbers and an empty folder, and returns what was wrong with the
answer to a damaged file, or an empty string. Processes, clusters and clocks are stand-ins.
"""

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from bench import __version__
from bench.cli import fleet
from bench.gate import settings
from bench.launch import ab, cluster, runner
from bench.launch import command as launched
from bench.launch.roster import Roster
from bench.measure import calibration
from bench.plugin import options, unfinished
from bench.records import reader, schema
from bench.records.choices import UserError
from bench.suite.loading import data
from bench.tune import loader
from bench.tune.loader import Setting
from tests.faults import damage
from tests.helpers.clusters import Client, Future, as_csv, described
from tests.helpers.command import run_bench
from tests.helpers.frames import row
from tests.helpers.processes import Machine

Target = Callable[[random.Random, Path], str]


def clear(call: Callable[[], object]) -> str:
    """Call; return what is wrong with what it raises, if it is no message of one line."""
    try:
        call()
    except (UserError, pytest.UsageError) as problem:
        line = str(problem)
        return "" if line.strip() and len(line.splitlines()) == 1 else f"not one line: {line!r}"
    except Exception as problem:
        return f"{type(problem).__name__}: {str(problem)[:200]}"
    return ""


def command(words: list[str], allowed: set[int]) -> str:
    """Run a command in this process; return what is wrong with its end, or an empty string."""
    done = run_bench(*words)
    if done.exception and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {str(done.exception)[:200]}"
    return (
        "" if done.exit_code in allowed else f"exit status {done.exit_code}: {done.output[-200:]}"
    )


class _Cluster(Client):
    """Two machines that answer at once, with one run each."""

    def submit(self, task, *args, workers, **_):
        label = workers[0].removeprefix("tcp://")
        made = described(label, f"host-{label}")
        return made if task.__name__ == "describe" else Future((0, as_csv(label)))


@contextlib.contextmanager
def _connected(*_: object) -> Iterator[Client]:
    yield _Cluster(**{"tcp://a1": 1, "tcp://b2": 1})


def roster(source: random.Random, folder: Path) -> str:
    """`bench fleet --resume` with a damaged fleet.json, or a damaged CSV of a machine."""
    damages_csv = source.random() < 0.3
    known = Roster(["--profile=smoke"], 1, "host", [] if damages_csv else ["a1"])
    known.machines = {"a1": known._hash("host-a1"), "b2": known._hash("host-b2")}
    known.write(folder)
    if damages_csv:
        (folder / "b2.csv").write_bytes(damage.damaged(as_csv("b2"), source))
    else:
        (folder / "fleet.json").write_bytes(damage.damaged_json(vars(known), source))
    with (
        mock.patch.object(fleet, "_connected", _connected),
        mock.patch.object(cluster, "POLL_S", 0.001),
    ):
        fault = command(["fleet", "--resume", str(folder), "--profile=smoke"], {0, 1, 2})
    outside = [path for path in folder.parent.iterdir() if path != folder]
    if not fault and damages_csv and "a1" not in Roster.read(folder).complete:
        fault = "a machine stopped the others"
    return fault or (f"wrote {outside[0]}" if outside else "")


def comparison(source: random.Random, folder: Path) -> str:
    """`bench ab --resume` with a damaged ab.json, or a damaged CSV of a side."""
    machine, words = Machine(seed=1), ["ab", "--screen-runs=2", "--confirm-runs=3"]
    words += ["--candidate-env=SIDE=candidate", "-k", "op"]
    with (
        mock.patch.object(runner, "run", machine.run),
        mock.patch.object(ab.sides, "_probe", return_value=None),
    ):
        if fault := command([*words, f"--folder={folder}"], {0, 1, 3}):
            return fault
        path = source.choice(sorted(folder.iterdir()))
        text = path.read_text(encoding="utf-8")
        is_json = path.suffix == ".json"
        raw = damage.damaged_json(json.loads(text), source) if is_json else None
        path.write_bytes(raw or damage.damaged(text, source))
        return command([*words, f"--resume={folder}"], {0, 1, 2, 3, 4})


SETTINGS = [Setting(0, batch) for batch in (16, 32, 64)]


def study(source: random.Random, folder: Path) -> str:
    """`bench tune loader --resume` with a damaged file of a search; nothing is measured."""
    images = torch.utils.data.TensorDataset(torch.arange(8))
    words = ["tune", "loader", "--budget=0"]
    trials = [
        {"setting": vars(one), "screened": [n, n + 1], "compared": [n + 2, n + 3], "reason": ""}
        for n, one in enumerate(SETTINGS, 1)
    ]
    stored = {"file": "bench tune", "options": ["--method=grid", "--device=cpu"], "trials": trials}
    stored |= {"machine": "here", "winner": vars(SETTINGS[0]), "proof": {"default": []}}
    stored["proof"]["default"] = [{"seconds": [1.0, 2.0], "loss": [0.4, 0.5]}]
    path = folder / "study.json"
    path.write_bytes(damage.damaged_json(stored, source))
    here = SimpleNamespace(key="here")
    with (
        mock.patch.object(loader, "space", return_value=SETTINGS),
        mock.patch.object(data, "custom_images", return_value=images),
        mock.patch.object(loader.Loading, "measure", return_value=[1.0, 1.1]),
        mock.patch("bench.measure.environment.current", return_value=here),
        mock.patch("bench.measure.environment.set_threads"),
    ):
        return command([*words, f"--resume={path}"], {0, 2, 3})


def times(source: random.Random, folder: Path) -> str:
    """The cache of the reference kernels: what is kept is known again, and plausible."""
    path = folder / "reference-kernels.json"
    with mock.patch.object(calibration, "path", return_value=path):
        stored = {calibration._entry("here"): {"stored": calibration.time.time(), "core": 8e-6}}
        path.write_bytes(damage.damaged_json(stored, source))
        if fault := clear(lambda: calibration.known("here")):
            return fault
        limit = 9e-6 / calibration.ABSURD  # as the reference kernels judge what is stored
        absurd = any(s <= limit for s in calibration.known("here").values())
        calibration.keep("here", {"core": 9e-6, "memory": 1e-3}, discard=absurd)
        known = calibration.known("here")
    kept = known.keys() >= {"core", "memory"} and 9e-7 < known["core"] <= 9e-6
    return "" if kept and all(0 < s < math.inf for s in known.values()) else f"knows {known}"


def images(source: random.Random, folder: Path) -> str:
    """The cache of images: a file that is damaged, missing or added is made again."""
    with (
        mock.patch.object(data, "cache", return_value=folder),
        mock.patch.object(data, "IMAGES", 3),
    ):
        made = data.image_folder("png")
        path = source.choice(sorted(made.iterdir()))
        raw = path.read_bytes()
        match source.randrange(4):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(raw[: source.randrange(len(raw))])
            case 2:
                path.write_bytes(b"x" + raw)
            case 3:
                path.write_bytes(raw[:-20] + bytes(20))
        data._is_whole.cache_clear()  # as in the next process
        found = [data.number_of(image) for image, _ in data.custom_images("png")]
    left = [path.name for path in folder.iterdir() if path.name != "png"]
    return "" if found == [0, 1, 2] and not left else f"images {found}, beside them {left}"


TOML = """[tool.bench.check]
threshold = 5
margin = 2.5
floor = 1e-6
min-judged = 80

[tool.bench.check.thresholds]
training = 10
cat = 3
"""


def pyproject(source: random.Random, folder: Path) -> str:
    """The settings of the gate: finite limits, or one line."""
    path = folder / "pyproject.toml"
    pieces = [*damage.TOKENS, "nan", "inf", "-5", "1e7", "1979-05-27", "'''", "[[a]]", "a.b.c = 1"]
    words = TOML.split(" ")
    words[source.randrange(len(words))] = source.choice(pieces)
    text = " ".join(words)
    path.write_bytes(
        damage.damaged(TOML, source) if source.random() < 0.5 else text.encode(errors="replace")
    )

    def read() -> None:
        found = settings.limits(path=path)
        values = [found.threshold, found.margin, found.floor_s, found.min_judged]
        values += found.thresholds.values()
        assert all(0 <= value < settings.LARGEST for value in values), values

    return clear(read)


def _run() -> options.Run:
    """Return what a run knows that resumes or appends."""
    columns = vars(row())
    names = ("os", "python", "torch", "torchvision", "cpu", "cpu_count", "memory_bytes", "threads")
    environment = SimpleNamespace(columns=lambda: {name: columns[name] for name in names})
    known = {"id": "new", "started": datetime.now(UTC), "machine": "here", "dtypes": []}
    known |= {"devices": {}, "profile": None, "profile_name": "smoke"}
    known |= {"open_writer": None}
    return options.Run(environment=environment, **known)


def _continued(source: random.Random, folder: Path, take: Callable[..., None]) -> str:
    """Damage a CSV and continue it; its good rows stay, and the new one is read."""
    text = damage.runs(1, folder, "whole.csv").read_text(encoding="utf-8")
    path = folder / "results.csv"
    text = text.replace(",0,r", f",{__version__},r").replace("2,0,whole", f"2,{__version__},whole")
    path.write_bytes(damage.damaged(text, source))
    unfinished.write(path, "whole.csv5", "smoke", [])
    beside = path.with_name("results.csv.unfinished")
    if source.random() < 0.3:
        beside.write_bytes(damage.damaged_json(json.loads(beside.read_text()), source))

    def go_on() -> None:
        unfinished.read(path)
        before, run = reader.read(path), _run()
        take(run, path)
        writer = run.open_writer()
        writer.append(row(run_id=run.id, benchmark="added", suite_version=__version__))
        writer.close()
        after = reader.read(path)
        assert len(after) == len(before) + 1, f"{len(before)} rows became {len(after)}"

    return clear(go_on)


def append(source: random.Random, folder: Path) -> str:
    """`--append` to a damaged CSV."""
    return _continued(source, folder, options._append)


def resume(source: random.Random, folder: Path) -> str:
    """`--resume` of a damaged CSV, with what was left to do."""
    return _continued(source, folder, lambda run, path: options._resume(run, path, None))


def cells(source: random.Random, folder: Path) -> str:
    """`--cells` with a damaged list; it names no folder outside the suite."""
    path = folder / "cells.csv"
    lines = [",".join(schema.CELL), "tensors,cat,cpu,float32,n=1", "training,step,cpu,float32,", ""]
    text = "\n".join(lines)
    path.write_bytes(damage.damaged(text, source))
    found = launched.folders(launched.PACKAGE, [f"--cells={path}"])
    if not all(one.is_relative_to(launched.PACKAGE / "suite") for one in found):
        return f"collects {found}"
    return clear(lambda: options._cells(str(path)))


TARGETS: dict[str, Target] = {
    "roster": roster,
    "ab": comparison,
    "study": study,
    "calibration": times,
    "images": images,
    "pyproject": pyproject,
    "--append": append,
    "--resume": resume,
    "--cells": cells,
}
