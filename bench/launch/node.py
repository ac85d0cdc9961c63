"""The part of `bench fleet` that runs in a Dask worker: start the suite in fresh processes.

Nothing here imports torch, so that the worker stays small.
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
from distributed import Event, Worker, get_client, get_worker

from bench.launch import runner
from bench.records.lines import last_line

_DESCRIBE = (
    "import json; from bench.measure import environment; "
    "print(json.dumps(environment.current().columns()))"
)
#: The setting of Dask that holds variables for its workers, such as OMP_NUM_THREADS=1.
NANNY_SETTING = "distributed.nanny.pre-spawn-environ"


def clear_nanny_variables() -> None:
    """Remove what Dask has set, so that the suite runs as in a shell of the user."""
    for name, value in dask.config.get(NANNY_SETTING, {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]


def describe() -> dict[str, Any]:
    """Return the name, address, host and environment of the worker; the host is never stored."""
    clear_nanny_variables()
    asked = subprocess.run(
        [sys.executable, "-c", _DESCRIBE], capture_output=True, errors="replace", check=False
    )
    if asked.returncode:
        raise RuntimeError(f"torch does not work there: {last_line(asked.stderr)}")
    worker = get_worker()
    name = {"name": str(worker.name), "address": worker.address, "host": platform.node()}
    return name | {"environment": json.loads(asked.stdout)}


class _EventSender:
    """Sends progress, and each row as soon as it is in the file, to the client."""

    def __init__(self, worker: Worker, topic: str, file: Path) -> None:
        self._worker, self._topic, self._file = worker, topic, file
        self._stop = Event(topic, client=get_client())
        self._sent = len(self._lines())

    def __call__(self, **event: Any) -> None:
        """Send the progress, and the complete rows that were written since the last call.

        Later visits replace rows that were sent; the client gets those with the whole file.
        """
        if "left_s" in event:
            return
        lines = self._lines()
        if rows := lines[max(1, self._sent) :]:
            self._sent = len(lines)
            self._worker.log_event(self._topic, {"rows": rows})
        self._worker.log_event(self._topic, event)

    def stopped(self) -> bool:
        """Return whether the client has stopped the run, or cannot be reached."""
        try:
            return bool(self._stop.is_set())
        except Exception:
            return True

    def _lines(self) -> list[list[str]]:
        """Return the complete lines of the file, its header included."""
        if not self._file.exists():
            return []
        whole = self._file.read_bytes().rpartition(b"\n")[0]
        return list(csv.reader(io.StringIO(whole.decode("utf-8"), newline="")))


def suite(
    topic: str, arguments: list[str], runs: int, stored: str, limit_s: float
) -> tuple[int, str]:
    """Run the suite `runs` times, or resume the CSV `stored`; return exit status and CSV.

    Rows and progress are sent as events on `topic`. Raises CannotRun after `limit_s` seconds.
    """
    clear_nanny_variables()
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as folder:
        file = Path(folder) / "rows.csv"
        if stored:
            file.write_text(stored, encoding="utf-8", newline="")
        sender = _EventSender(get_worker(), topic, file)
        resume, output = (file, None) if stored else (None, file)
        code, _ = runner.run(
            arguments, runs, output, resume, sender, limit_s=limit_s, stopped=sender.stopped
        )
        return code, file.read_text(encoding="utf-8") if file.exists() else ""
