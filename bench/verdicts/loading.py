"""How to load data, and whether loading keeps up with training."""

import math
from collections.abc import Iterator

from bench.compare import cells
from bench.compare.cells import Cell
from bench.verdicts.finding import (
    NOTABLE,
    Alternatives,
    Finding,
    Subject,
    compared,
    per_unit,
    unsettled_rivals,
)
from bench.verdicts.named import FASHION, LOADER, PERSISTENT, PINNED, START_METHOD, STEP

#: Samples in a batch of the training step that reading is compared with.
BATCH = 64


def _likely(cell: Cell) -> float:
    """Return items per second at the likely time, 0 if unknown."""
    return cell.items / cell.estimate.likely if cell.items and cell.estimate.likely else 0.0


def _as_fast(cell: Cell, fastest: Cell) -> bool:
    """Whether a setting is the fastest one, or surely within `NOTABLE` of it."""
    made = per_unit(cell, fastest, "items")
    return cell is fastest or (made is not None and made.high <= NOTABLE)


def _workers(cell: Cell | Subject) -> int:
    return int(cell.params["workers"])


def loading(found: list[Cell]) -> Iterator[Finding]:
    """Find the workers and the batch size that load fastest.

    Of the settings that are surely as fast as the fastest one (within `NOTABLE`), this is the one
    with the fewest workers. The rival is the best setting with workers if the best has none,
    without workers if it has some. The advice is `among the best` if another settled setting may be
    as fast, `best settled` if only one that is not settled may be, else `best`.
    """
    known = LOADER.among(found)
    timed = sorted((c for c in known if c.rate("items")), key=lambda c: -c.rate("items"))
    if not timed:
        return
    fastest, among = timed[0], math.comb(len(timed), 2)
    best = min(filter(lambda cell: _as_fast(cell, fastest), timed), key=_workers)
    others = [cell for cell in timed if cell is not best]
    ties = [cell for cell in others if not compared(cell, best, among, "items")]
    rest = unsettled_rivals(known, best, "items")
    alone = without_workers(best)
    rivals = [cell for cell in others if without_workers(cell) != alone]
    ratio = compared(best, rivals[0], among, "items") if rivals else None
    yield Alternatives(
        topic="loading",
        subject=Subject.of(best),
        advice="among the best" if ties else "best settled" if rest else "best",
        ratio=ratio,
        amount=best.rate("items"),
        unit="images/s",
        rival=Subject.of(rivals[0]) if rivals else None,
        alike=tuple(Subject.of(cell) for cell in ties if without_workers(cell) == alone),
        memory_bytes=best.peak_bytes,
        unmeasured={
            f"workers={cell.params['workers']} batch={cell.params['batch']}": cell.estimate.status
            for cell in known
            if not cell.rate("items")
        },
        n=len(timed),
        total=len(known),
    )


def options(found: list[Cell]) -> Iterator[Finding]:
    """Find what other settings of a DataLoader gain: the best value of each, against the worst."""
    groups = [
        [cell for cell in group if cell.estimate.likely]
        for named in (START_METHOD, PERSISTENT, PINNED)
        for group in cells.alike(named.among(found), param=named.params[0])
    ]
    for group in groups:
        if len(group) < 2:
            continue
        best, *_, worst = sorted(group, key=lambda cell: cell.estimate.likely or 0.0)
        if ratio := compared(best, worst, sum(math.comb(len(group), 2) for group in groups)):
            yield Finding(
                topic="loader option",
                subject=Subject.of(best),
                ratio=ratio,
                rival=Subject.of(worst),
                n=len(group),
            )


def without_workers(cell: Cell | Subject) -> bool:
    """Whether the process that trains loads the images too."""
    return _workers(cell) == 0


def workers(found: list[Cell]) -> str:
    """Return the numbers of workers that load fastest, such as "2 or 4", blank if not settled.

    It is "0" if the fastest setting, or one that is surely as fast, has no workers.
    """
    for one in loading(found):
        settled = one.advice != "best settled" and (one.ratio or without_workers(one.subject))
        if settled:
            return " or ".join(map(str, sorted({*map(_workers, (one.subject, *one.alike))})))
    return ""


def bottlenecks(found: list[Cell]) -> Iterator[Finding]:
    """Find for each device whether reading FashionMNIST keeps up with the training step, its rival.

    The step trains on these images, so like is compared with like: both without workers, in the
    fastest dtype of the step and at the batch nearest to `BATCH`. Amounts are images and samples
    per second, None unless they are settled. The advice is `unclear` as well if a dtype that is not
    settled may be faster.
    """
    read = [c for c in FASHION.among(found) if c.params["target"] == "index" and _likely(c)]
    steps = [cell for cell in STEP.among(found) if cell.number("batch")]
    if not read:
        return
    source = read[0]
    by_device = cells.grouped(steps, lambda cell: cell.device)
    for here in by_device.values():
        nearest = min(abs(cell.number("batch") - BATCH) for cell in here)
        near = [cell for cell in here if abs(cell.number("batch") - BATCH) == nearest]
        step = max(near, key=lambda cell: (cell.settled, _likely(cell)))
        if not _likely(step):
            continue
        ratio = compared(source, step, len(by_device), "items")
        slower = ratio is not None and ratio.value > 1
        if not slower and unsettled_rivals(near, step, "items"):
            ratio = None
        yield Finding(
            topic="bottleneck",
            subject=Subject.of(source),
            advice="loading" if slower else "keeps up" if ratio else "unclear",
            ratio=ratio,
            amount=source.rate("items") or None,
            unit="items/s",
            rival=Subject.of(step),
            rival_amount=step.rate("items") or None,
            n=2,
        )
