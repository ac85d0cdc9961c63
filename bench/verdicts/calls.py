"""What calls cost besides their work: the first one, compiling, launching, and memory."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.compare.cells import Cell, grouped
from bench.stats.quantiles import median_interval
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Finding, Subject, compared
from bench.verdicts.grouped import pairs_of_dtypes
from bench.verdicts.named import COMPILED, FORWARD_BACKWARD

#: The param of the pass that compiles nothing and trains as much.
TRAINED = ("parameters", "trained")
#: Of a run with this share of unstable cells, the first calls were disturbed too.
NOISY = 0.1


@dataclass(frozen=True, kw_only=True)
class Compiled(Finding):
    """What torch.compile gains in each call after the first, which takes `amount` seconds.

    `calls` is the number of calls after which it pays off, with the ends of the interval; None if
    it is not clearly faster. `advice` is `pays`, `costs` or `unclear`.
    """

    calls: tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class Memory(Finding):
    """The memory that cells take in a dtype over that in float32, from `least` to `most`.

    `amount` and `rival_amount` are bytes of the subject, which takes most, and of its rival.
    """

    least: float
    most: float


def compiled(found: list[Cell]) -> Iterator[Finding]:
    """Find after how many calls torch.compile pays off; the rival is not compiled."""
    eager = {
        (cell.device, cell.dtype, cell.params["batch"]): cell
        for cell in FORWARD_BACKWARD.among(found)
        if TRAINED in cell.params.items() and cell.estimate.likely
    }
    pairs = [
        (cell, base)
        for cell in COMPILED.among(found)
        if (base := eager.get((cell.device, cell.dtype, cell.params["batch"])))
        and cell.estimate.likely
    ]
    for cell, base in pairs:
        ratio, seconds = compared(cell, base, len(pairs)), base.estimate.likely or 0.0
        pays, first_s = ratio is not None and ratio.high < 1, cell.first_call_s
        calls = None
        if pays and ratio and first_s:
            more = max(first_s - (base.first_call_s or seconds), 0.0) / seconds
            middle, low, high = (1 + more / (1 - x) for x in (ratio.value, ratio.low, ratio.high))
            calls = middle, low, high
        yield Compiled(
            topic="compiled",
            subject=Subject.of(cell),
            advice="pays" if pays else "costs" if ratio else "unclear",
            ratio=ratio,
            amount=first_s,
            unit="s",
            rival=Subject.of(base),
            rival_amount=base.first_call_s,
            n=2,
            calls=calls,
        )


def memory(found: list[Cell]) -> Iterator[Finding]:
    """Find how much memory training takes on an accelerator in each dtype, against float32."""
    known = [cell for cell in found if cell.family == "training" and cell.peak_bytes]
    pairs = pairs_of_dtypes(known)
    for several in grouped(pairs, lambda pair: (pair[0].device, pair[0].dtype)).values():
        cell, base = max(several, key=lambda pair: pair[1].peak_bytes or 0)
        shares = [(c.peak_bytes or 0) / (b.peak_bytes or 1) for c, b in several]
        yield Memory(
            topic="memory",
            subject=Subject.of(cell),
            amount=cell.peak_bytes,
            unit="B",
            rival=Subject.of(base),
            rival_amount=base.peak_bytes,
            least=min(shares),
            most=max(shares),
            n=len(several),
        )


def first_calls(found: list[Cell]) -> Iterator[Finding]:
    """Find how much longer the first call takes on each device, and the slowest first call.

    `ratio` is the median over cells of the first call over a later one; `amount` is the slowest
    first call, of the subject, in seconds. A first call is timed once, so nothing shows what other
    programs added to it. Where more than `NOISY` of the cells are not settled, the ratio is known
    `at most`; where most are not, nothing is known.
    """
    timed = [c for c in found if c.first_call_s and c.estimate.likely]
    for every in grouped(timed, lambda cell: cell.device).values():
        here = [cell for cell in every if cell.settled]
        if 2 * len(here) < len(every):
            continue
        ratios = [(cell.first_call_s or 0) / (cell.estimate.seconds or 1) for cell in here]
        interval = median_interval(ratios)
        noisy = len(every) - len(here) > NOISY * len(every)
        slowest = max(here, key=lambda cell: cell.first_call_s or 0)
        if interval:
            yield Finding(
                topic="first call",
                subject=Subject.of(slowest),
                advice="at most" if noisy else "",
                ratio=Ratio(statistics.median(ratios), 0.0 if noisy else interval[0], interval[1]),
                amount=slowest.first_call_s,
                unit="s",
                n=len(here),
            )


def launches(found: list[Cell]) -> Iterator[Finding]:
    """Count the cells of each device whose work takes longer to launch than to run.

    A cell runs for `device_s`, or without a clock of the device for what is left of its median.
    `amount` is the median time of a launch in seconds, `rival_amount` that of the work.
    """
    timed = [
        (cell, cell.dispatch_s, cell.device_s or max(cell.estimate.seconds - cell.dispatch_s, 0.0))
        for cell in found
        if cell.dispatch_s and cell.estimate.seconds
    ]
    for device, here in grouped(timed, lambda one: one[0].device).items():
        bound = sum(launch > run for _, launch, run in here)
        yield Finding(
            topic="launch",
            subject=Subject(device),
            advice="fewer calls" if bound else "",
            amount=statistics.median(launch for _, launch, _ in here),
            unit="s",
            rival_amount=statistics.median(run for *_, run in here),
            n=bound,
            total=len(here),
        )
