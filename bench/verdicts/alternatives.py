"""Which of several alternatives is the best: optimizer, in place, sharing memory."""

import math
from collections.abc import Iterator

from bench.compare import cells
from bench.compare.cells import Cell
from bench.verdicts.finding import Alternatives, Finding, Subject, compared
from bench.verdicts.named import FROM_NUMPY, OPTIMIZER_STEP, TENSOR_FROM_ARRAY


def optimizers(found: list[Cell]) -> Iterator[Finding]:
    """Find the fastest implementation of each optimizer; its rival is the slowest.

    The advice is `faster` rather than `fastest` if another may be as fast or was not measured.
    """
    steps = [cell for cell in OPTIMIZER_STEP.among(found) if cell.dtype == "float32"]
    groups = list(cells.alike(steps, param="implementation"))
    among = sum(math.comb(len(group), 2) for group in groups)
    for group in groups:
        timed = [cell for cell in group if cell.estimate.likely]
        if not timed:
            continue
        best, *others = sorted(timed, key=lambda cell: cell.estimate.likely or 0)
        slower = [cell for cell in others if compared(best, cell, among)]
        if not slower:
            continue
        alike = tuple(Subject.of(cell) for cell in others if cell not in slower)
        unmeasured = {
            cell.params["implementation"]: cell.estimate.status
            for cell in group
            if not cell.estimate.likely and cell.estimate.status != "unsupported"
        }
        yield Alternatives(
            topic="optimizer",
            subject=Subject.of(best),
            advice="faster" if alike or unmeasured else "fastest",
            ratio=compared(best, slower[-1], among),
            rival=Subject.of(slower[-1]),
            alike=alike,
            unmeasured=unmeasured,
            n=len(group),
        )


def in_place(found: list[Cell]) -> Iterator[Finding]:
    """Find what working in place gains or costs: the largest difference of each benchmark."""
    best: dict[tuple[str, str], Finding] = {}
    formed = (c for c in found if c.dtype == "float32" and "form" in c.params)
    groups = [{c.params["form"]: c for c in group} for group in cells.alike(formed, param="form")]
    pairs = [
        (here, base)
        for group in groups
        if (here := group.get("in_place")) and (base := group.get("out_of_place"))
    ]
    for here, base in pairs:
        if ratio := compared(here, base, len(pairs)):
            made = Finding(
                topic="in place",
                subject=Subject.of(here),
                advice="use" if ratio.value < 1 else "slower",
                ratio=ratio,
                rival=Subject.of(base),
                n=2,
            )
            key = (here.device, here.benchmark)
            if key not in best or made.effect > best[key].effect:
                best[key] = made
    yield from best.values()


def copies(found: list[Cell]) -> Iterator[Finding]:
    """Find copies from numpy that sharing the memory would avoid."""
    on_host = [cell for cell in found if (cell.device, cell.dtype) == ("cpu", "float32")]
    shared = {cell.params["n"]: cell for cell in FROM_NUMPY.among(on_host)}
    for cell in TENSOR_FROM_ARRAY.among(on_host):
        sharing = shared.get(cell.params["n"])
        ratio = compared(cell, sharing, len(shared)) if sharing else None
        if sharing and ratio and ratio.value > 1:
            yield Finding(
                topic="copy",
                subject=Subject.of(cell),
                advice="share",
                ratio=ratio,
                amount=cell.estimate.likely,
                unit="s",
                rival=Subject.of(sharing),
                rival_amount=sharing.estimate.likely,
                n=2,
            )
