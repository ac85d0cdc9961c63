"""What a run prints before its first cell: its length, and whether the machine is quiet."""

from collections.abc import Sequence
from typing import Any

import psutil

from bench.measure import doctor
from bench.plugin.options import Run
from bench.report import doctor as words
from bench.report import units

#: Seconds of a visit besides its rounds: data, the check of the answer, warm-up.
AROUND_S = 0.2


def lines(run: Run, cells: Sequence[Any]) -> list[str]:
    """Return the lines for the user; only a run that times cells looks at the machine."""
    once = run.profile.once
    visits_s = len(cells) * (run.profile.plan.max_time_s + AROUND_S)
    seconds = visits_s if once else max(run.budget_of(len(cells)), visits_s)
    does = "called once, not timed" if once else "timed"
    made = [f"{units.count(len(cells), 'cell')} to be {does}: about {_length(seconds)}"]
    if not once and (most := run.busy_budget_of(len(cells))) > seconds:
        made[0] += f", up to {_length(most)} on a busy machine"
    return made if once else made + look()


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.2g} minutes"


def look() -> list[str]:
    """Return what disturbs a run that starts now; the run continues."""
    found = [doctor.neighbours(), doctor.power()]
    made = [
        f"process {pid} runs benchmarks too, and both disturb each other" for pid in _other_runs()
    ]
    for one in found:
        if one.remedies:
            seen = words.seen(one.code, one.figures)
            made.append(f"{seen}: {words.remedy(one.remedies, one.figures)}")
    return [f"note: {line}" for line in made]


def _other_runs() -> list[int]:
    """Return the processes that run benchmarks and have nothing to do with this one."""
    me = psutil.Process()
    mine = {me.pid, *(p.pid for p in (*me.parents(), *me.children(recursive=True)))}
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "--benchmark-only" in (process.info["cmdline"] or ()) and process.pid not in mine
    ]
