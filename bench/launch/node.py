"""What runs on a machine of the fleet, inside a Dask worker: the suite, in fresh processes.

Nothing here imports torch: the worker stays small, and what is timed runs in a process of its own.
"""

import csv
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
from distributed import Event, Worker, get_worker

from bench.launch import runner

_ASK = (
    "import json; from bench.measure import environment; "
    "print(json.dumps(environment.current().columns()))"
)


#: Dask's variables for its own workers, such as OMP_NUM_THREADS=1.
OF_NANNY = "distributed.nanny.pre-spawn-environ"


def unburden() -> None:
    """Take away what Dask's nanny has set: the suite is to run as in a process of the user's."""
    for name, value in dask.config.get(OF_NANNY, {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]


def describe() -> dict[str, Any]:
    """Return the worker's name, its host (to tell machines apart, never stored), its versions."""
    unburden()
    asked = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"torch cannot be used there: {last}")
    worker = get_worker()
    name = {"name": str(worker.name), "address": worker.address, "host": platform.node()}
    return name | {"environment": json.loads(asked.stdout)}


class Stopped(Exception):
    """The client wants no more."""


class _Teller:
    """Sends each row to the client as soon as it stands in the file."""

    def __init__(self, worker: Worker, topic: str, file: Path) -> None:
        self._worker, self._topic, self._file = worker, topic, file
        self._stop = Event(topic)
        self._read = file.stat().st_size if file.exists() else 0

    def begins(self, run: int, done: int, total: int, cell: dict[str, Any]) -> None:
        """Tell where the run is, and the rows that have ended."""
        if self._stop.is_set():
            raise Stopped
        self.rows()
        told = {"run": run, "done": done, "total": total, "cell": cell}
        self._worker.log_event(self._topic, {"begins": told})

    def says(self, line: str) -> None:
        """Tell a line for the user."""
        self._worker.log_event(self._topic, {"says": line})

    def rows(self) -> None:
        """Tell the rows that were written since the last time, and no half ones."""
        with self._file.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        if newline:
            lines = list(csv.reader(io.StringIO(whole.decode("utf-8"))))
            rows = lines if self._read else lines[1:]
            self._read += len(whole) + 1
            self._worker.log_event(self._topic, {"rows": rows})


def suite(topic: str, words: list[str], runs: int, stored: str, limit_s: float) -> tuple[int, str]:
    """Run the suite `runs` times, or go on with the CSV `stored`; return exit status and CSV.

    Rows and progress go out as events on `topic` meanwhile. Raises CannotRun where it takes more
    than `limit_s`.
    """
    unburden()
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as folder:
        file = Path(folder) / "rows.csv"
        if stored:
            file.write_text(stored, encoding="utf-8", newline="")
        teller = _Teller(get_worker(), topic, file)
        resume, output = (file, None) if stored else (None, file)
        code, _ = runner.run(words, runs, output, resume, teller, limit_s=limit_s)
        return code, file.read_text(encoding="utf-8") if file.exists() else ""
