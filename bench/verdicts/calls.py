"""What calls cost besides their work: the first one, and launching work on a device."""

import statistics
from collections.abc import Iterator

from bench.compare.cells import Cell
from bench.stats.quantiles import median_interval
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Finding, Subject


def first_calls(found: list[Cell]) -> Iterator[Finding]:
    """Find how much longer the first call takes on each device, and the slowest first call.

    `ratio` is the median over cells of the first call over a later one; `amount` is the slowest
    first call, of the subject, in seconds.
    """
    timed = [c for c in found if c.first_call_s and c.estimate.seconds]
    for device in dict.fromkeys(cell.device for cell in timed):
        here = [cell for cell in timed if cell.device == device]
        ratios = [(cell.first_call_s or 0) / (cell.estimate.seconds or 1) for cell in here]
        interval = median_interval(ratios)
        slowest = max(here, key=lambda cell: cell.first_call_s or 0)
        if interval:
            yield Finding(
                topic="first call",
                subject=Subject.of(slowest),
                ratio=Ratio(statistics.median(ratios), *interval),
                amount=slowest.first_call_s,
                unit="s",
                n=len(here),
            )


def launches(found: list[Cell]) -> Iterator[Finding]:
    """Count the cells of each device whose work takes longer to launch than to run.

    A cell runs for `device_s`, or without a clock of the device for what is left of its median.
    `amount` is the median time of a launch in seconds.
    """
    timed = [
        (cell, cell.dispatch_s, cell.device_s or max(cell.estimate.seconds - cell.dispatch_s, 0.0))
        for cell in found
        if cell.dispatch_s and cell.estimate.seconds
    ]
    for device in dict.fromkeys(cell.device for cell, _, _ in timed):
        here = [(launch, run) for cell, launch, run in timed if cell.device == device]
        bound = sum(launch > run for launch, run in here)
        yield Finding(
            topic="launch",
            subject=Subject(device),
            advice="fewer calls" if bound else "",
            amount=statistics.median(launch for launch, _ in here),
            unit="s",
            n=bound,
            total=len(here),
        )
