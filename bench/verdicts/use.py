"""The setting to train with: the fastest step that was timed, against the plain default."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bench.compare import benchmarks
from bench.compare.cells import Cell
from bench.compare.cells import grouped as grouped_by
from bench.records.schema import FAULTS, SEVERITY
from bench.stats.ratios import Ratio
from bench.verdicts import alternatives, calls, grouped, loading
from bench.verdicts.finding import Finding, Subject, notable, per_unit
from bench.verdicts.named import AUTOCAST, STEP

#: Dtypes of steps that are as fast: the range of float16 needs a scaled loss.
_PREFERRED = {"float32": 0, "bfloat16": 1, "float16": 2}
#: Samples in a batch of the plain default.
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Use(Finding):
    """The setting to train with, compared with the plain default, its rival.

    `amount` is its rate in samples a second, None unless it is settled; `ratio` is the time of a
    sample over that in the default. Where no settled step is notably faster than the default, the
    subject is the one whose gain is at least the largest. `advice` is `use`; `among the best` if a
    step that is not settled may be faster; `default` if nothing is notably faster than the default;
    or `unknown`. `autocast`: parameters stay in float32. `of_dtype` and `of_batch` are the parts of
    `ratio`: the dtype alone at the batch of the setting, and its batch (and device) in float32, if
    both differ from the default. `implementation` is that of the optimizers which is clearly the
    fastest, blank if none is; `workers` the numbers of DataLoader workers that load fastest, "0" if
    none are needed, blank if that is not settled. `compiled`: torch.compile makes forward and
    backward faster at every batch. `avoid`: the dtypes in which training is slower than in float32,
    and by how much. `broken`: the dtypes and devices in which no training step has a time, and the
    worst status of their steps.
    """

    autocast: bool = False
    of_dtype: Ratio | None = None
    of_batch: Ratio | None = None
    implementation: str = ""
    workers: str = ""
    compiled: bool = False
    avoid: Mapping[str, Ratio] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


def settings(found: list[Cell]) -> Iterator[Use]:
    """Find the fastest step of a sample; of those as good, the one with the smallest batch."""
    autocast = AUTOCAST.among(found)
    steps = [
        cell
        for cell in (*STEP.among(found), *autocast)
        if cell.items and cell.number("batch") and cell.estimate.likely
    ]
    base = _default(steps)
    if base is None:
        return
    settled, many = [cell for cell in steps if cell.settled], len(steps)
    gains = {
        id(cell): gain
        for cell in steps
        if (gain := notable(per_unit(cell, base, "items", many))) and gain.value < 1
    }
    fastest = max(settled, key=lambda cell: cell.rate("items"), default=base)
    alike = [cell for cell in settled if not notable(per_unit(cell, fastest, "items"))]
    chosen = min(
        alike,
        key=lambda c: (c.number("batch"), _PREFERRED.get(c.dtype, 3), c.device != "cpu"),
        default=base,
    )
    if id(chosen) not in gains and gains:
        better = [cell for cell in steps if id(cell) in gains]
        chosen = min(better, key=lambda cell: gains[id(cell)].high)
    ratio = per_unit(chosen, base, "items") if id(chosen) in gains else None
    unsettled = [
        cell
        for cell in steps
        if not cell.settled and (made := per_unit(cell, chosen, "items")) and made.low < 1
    ]
    if ratio is None:
        advice = "unknown" if unsettled or not base.settled else "default"
    else:
        advice = "among the best" if unsettled else "use"
    shown = chosen if ratio else base
    between = _in_float32(steps, chosen) if ratio else None
    of_dtype = per_unit(chosen, between, "items") if between and between is not chosen else None
    of_batch = per_unit(between, base, "items") if between and between is not base else None
    group = benchmarks.group(shown.family, shown.benchmark)
    yield Use(
        topic="use",
        subject=Subject.of(shown),
        advice=advice,
        ratio=ratio,
        amount=shown.rate("items") or None,
        unit="samples/s",
        rival=Subject.of(base),
        rival_amount=base.rate("items") or None,
        alike=tuple(Subject.of(cell) for cell in unsettled),
        n=len(settled),
        total=many,
        autocast=shown in autocast,
        of_dtype=of_dtype if of_batch else None,
        of_batch=of_batch if of_dtype else None,
        implementation=_implementation(found, shown.device),
        workers=loading.workers(found),
        compiled=_compiled(found, shown),
        avoid={
            one.subject.dtype: one.ratio
            for one in grouped.dtypes(found)
            if (one.subject.device, one.group) == (shown.device, group)
            if one.ratio and one.advice == "slower" and one.subject.dtype != shown.dtype
        },
        broken=_broken(STEP.among(found)),
    )


def _broken(steps: list[Cell]) -> dict[str, str]:
    """Return where each step failed or was refused, with the worst status: devices, or dtypes."""
    made = {}
    for device, of_device in grouped_by(steps, lambda cell: cell.device).items():
        places = {
            f"{dtype} on {device}": own
            for dtype, own in grouped_by(of_device, lambda cell: cell.dtype).items()
        }
        for place, own in {device: of_device}.items() if _all_broken(of_device) else places.items():
            if _all_broken(own):
                made[place] = min((cell.estimate.status for cell in own), key=SEVERITY.index)
    return made


def _all_broken(steps: list[Cell]) -> bool:
    return all(cell.estimate.status in (*FAULTS, "unsupported") for cell in steps)


def _in_float32(steps: list[Cell], like: Cell) -> Cell | None:
    """Return the settled plain step in float32 on the device and at the batch of another."""
    plain = (c for c in steps if c.settled and c.benchmark == STEP.benchmark)
    wanted = like.device, "float32", like.params["batch"]
    return next((c for c in plain if (c.device, c.dtype, c.params["batch"]) == wanted), None)


def _implementation(found: list[Cell], device: str) -> str:
    """Return the implementation that is the fastest for every optimizer with a difference."""
    best = [one for one in alternatives.optimizers(found) if one.subject.device == device]
    names = {one.subject.params["implementation"] for one in best}
    return names.pop() if len(names) == 1 and all(b.advice == "fastest" for b in best) else ""


def _compiled(found: list[Cell], shown: Cell) -> bool:
    """Return whether torch.compile pays on the device of a step, wherever it was timed."""
    here = [one.advice for one in calls.compiled(found) if one.subject.device == shown.device]
    return bool(here) and set(here) == {"pays"}


def _default(steps: list[Cell]) -> Cell | None:
    """Return float32 at the batch nearest to `BATCH`, on the best accelerator or the CPU."""
    plain = [cell for cell in steps if cell.benchmark == STEP.benchmark and cell.dtype == "float32"]
    return min(
        plain,
        key=lambda c: (abs(c.number("batch") - BATCH), c.device == "cpu", c.estimate.likely or 0.0),
        default=None,
    )
