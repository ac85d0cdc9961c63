"""Run the suite in fresh processes, and continue after a crash."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.launch.command import HERE, CannotRun, Installation, values
from bench.launch.process import Launcher, Listener
from bench.records import reader, schema
from bench.records.lines import of_exit
from bench.records.schema import Row
from bench.records.writer import reopen

#: The exit status of a run that Ctrl-C has ended, as in a shell.
STOPPED = 130
#: What is reported where the options, the files or the profile leave nothing to time.
NO_CELL = "no cell matches these options and files; bench list shows which cells there are"
#: When this many cells have killed their process, the run stops.
MAX_DEATHS = 10
#: Seconds that a cell may take before its process is ended; --cell-timeout changes it.
CELL_LIMIT_S = 900.0
#: Signals by which somebody ends a process from outside.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_FROM_OUTSIDE = {getattr(signal, name) for name in _NAMES if hasattr(signal, name)}


class Stopped(CannotRun):
    """Ctrl-C has ended the suite; the message says how to continue."""

    code = STOPPED


def _out_of_memory_kills() -> int:
    """Return how many processes Linux has killed since boot because memory ran out."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    counts = dict(line.split() for line in text.splitlines())
    return int(counts.get("oom_kill", 0))


def _has_row(file: Path, cell: dict[str, Any]) -> bool:
    """Whether the file already has a row of this cell and run."""
    names = ["run_id", *schema.CELL]
    return bool((reader.read(file)[names] == [cell[name] for name in names]).all(axis=1).any())


def _failed(file: Path) -> bool:
    """Whether a cell of the last run in a file failed, no matter which process wrote its row."""
    rows = reader.read(file)
    last = rows[rows.run_id.isin(rows.run_id.iloc[-1:])]
    return bool(last.status.isin(schema.FAILED).any())


def _run_once(launcher: Launcher, csv_options: Sequence[str], run: int) -> tuple[int, Path | None]:
    """Run the suite once; start a new process after each cell that killed its process.

    `csv_options` are the options that name the CSV. Returns the exit status and the CSV.
    """
    file: Path | None = None
    deaths = 0
    while True:
        deaths += 1
        kills = _out_of_memory_kills()
        code, report, output = launcher.process(csv_options, run)
        file = report.file or file
        if report.timed_out and time.monotonic() >= launcher.ends_at:
            last = report.cell["benchmark"] if report.cell else "the start"
            raise CannotRun(f"the time limit was reached in {last}")
        if report.interrupted:
            return STOPPED, file
        for line in report.lines:
            launcher.listener(message=line)
        if report.lost and report.file and deaths < MAX_DEATHS:
            for line in report.lost:
                launcher.listener(message=f"{line}; the run continues in a fresh process")
            csv_options = [f"--resume={report.file}"]
            continue
        nothing_left = code == pytest.ExitCode.NO_TESTS_COLLECTED
        if deaths > 1 and nothing_left:
            return 1, file  # the last cell killed its process
        if report.finished is not None or report.file is None or report.cell is None:
            complete = nothing_left and any(w.startswith("--resume=") for w in csv_options)
            if (code not in (0, 1, 2) or not file) and not report.lines and not complete:
                shown = output.strip() or "the process ended before its first cell"
                launcher.listener(message=NO_CELL if nothing_left else shown)
            return code or int(report.finished is None), file
        out_of_memory = _out_of_memory_kills() > kills
        killed = code == -getattr(signal, "SIGKILL", 9) and not out_of_memory
        if not report.timed_out and (killed or -code in _FROM_OUTSIDE):
            launcher.listener(message=f"killed from outside; continue with --resume {file}")
            return 2, file
        status, reason = "error", f"the process died in this cell: {of_exit(code)}"
        if report.timed_out:
            reason = f"no end within {launcher.cell_limit_s:g} s (--cell-timeout)"
        elif out_of_memory:
            what = "the host ran out of memory, and the system killed the process"
            status, reason = "oom", f"{what} in this cell"
        if not _has_row(report.file, report.cell):  # else it died in the cleanup after its row
            with contextlib.closing(reopen(report.file)) as writer:
                writer.append(Row(status=status, reason=reason, **report.cell))
        if deaths == MAX_DEATHS:
            launcher.listener(
                message=f"{deaths} cells killed their process; continue with --resume {file}"
            )
            return 1, file
        name = f"{report.cell['benchmark']} {report.cell['dtype']}"
        launcher.listener(message=f"{reason} ({name}); the run continues")
        csv_options = [f"--resume={report.file}"]


def _cell_limit(arguments: Sequence[str]) -> tuple[list[str], float]:
    """Take ``--cell-timeout`` out of the arguments; return the others and its seconds."""
    option = "--cell-timeout"
    given = values(arguments, option)
    if not given:
        return list(arguments), CELL_LIMIT_S
    try:
        limit_s = float(given[-1])
    except ValueError:
        limit_s = 0.0
    if not limit_s > 0:
        raise CannotRun(f"{option}: {given[-1]!r} is not a number of seconds; give one above 0")
    pairs = zip(["", *arguments], arguments, strict=False)
    rest = [w for before, w in pairs if option not in (before, w.partition("=")[0])]
    return rest, limit_s


def run(
    arguments: list[str],
    runs: int,
    output: Path | None,
    resume: Path | None,
    listener: Listener,
    place: Installation = HERE,
    limit_s: float = math.inf,
    append: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[int, Path | None]:
    """Run the suite `runs` times, each in a fresh process, into one file.

    `arguments` are for pytest. `output` must be a new file, unless the runs `append` to it. With
    `resume`, the runs in that file count: the last one is completed, then the missing ones follow.
    Returns the worst exit status of all runs, and the file. Ctrl-C ends them with `STOPPED`, and so
    does `stopped`, which another thread asks once a second.

    Raises CannotRun if `resume` is no result file, and after `limit_s` seconds.
    """
    ends_at = time.monotonic() + limit_s
    words, cell_limit_s = _cell_limit(arguments)
    launcher = Launcher(words, listener, place, ends_at, cell_limit_s, stopped)
    first = 1
    csv_options = [f"--output={output}"] if output else []
    csv_options += ["--append"] if append else []
    if resume:
        try:
            first = max(1, reader.read(resume).run_id.nunique())
        except reader.BadFile as problem:
            raise CannotRun(f"--resume: {problem}") from problem
        csv_options = [f"--resume={resume}"]
    worst, file = 0, resume
    for number in range(first, max(runs, first) + 1):
        code, found = _run_once(launcher, csv_options, number)
        code = code if code >= 0 else 128 - code  # ended by a signal: the exit status of a shell
        file = found or file
        if code == pytest.ExitCode.NO_TESTS_COLLECTED and resume and number == first:
            code = 0  # that run was complete
        if code == 0 and found and _failed(found):
            code = 1
        worst = max(worst, code)
        if code not in (0, 1):
            break
        csv_options = [f"--output={file}", "--append"]
    return worst, file
