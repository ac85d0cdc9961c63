"""The roofline of a device: its operations below its measured peaks."""

from collections.abc import Iterable

from bench.compare.cells import Cell, grouped
from bench.records.labels import slug
from bench.report.picture import COLOURS, DTYPES, INK, Picture, figure_of
from bench.verdicts.named import COPY

#: Shapes of points that a reader can distinguish.
_MARKS = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">", "p", "d", "1", "2", "+", "x")


def rooflines(cells: list[Cell]) -> list[Picture]:
    """Draw each device's operations under its measured peaks.

    S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """
    made = []
    for device, here in grouped(cells, lambda cell: cell.device).items():
        moved = [r for c in COPY.among(here) if (r := c.rate("bytes"))]
        points = {dtype: _operations(c for c in here if c.dtype == dtype) for dtype in DTYPES}
        points = {dtype: found for dtype, found in points.items() if len(found) > 2}
        if not moved or not points:
            continue
        figure, axes = figure_of(6.4, 4.2)
        every = [point for found in points.values() for point in found]
        low, high = min(x for x, _, _ in every) / 2, max(x for x, _, _ in every) * 2
        ridge = min(max(max(rate for _, rate, _ in every) / max(moved), low), high)
        axes.loglog((low, ridge), (low * max(moved), ridge * max(moved)), color=INK, linewidth=1)
        marks = dict(zip(dict.fromkeys(name for _, _, name in every), _MARKS * 9, strict=False))
        for dtype, found in points.items():
            colour, top = COLOURS[DTYPES.index(dtype)], max(rate for _, rate, _ in found)
            left = min(max(top / max(moved), low), high)
            axes.loglog((left, high), (top, top), color=colour, linewidth=1, label=dtype)
            for x, rate, name in found:
                axes.loglog(x, rate, marks[name], markersize=4, color=colour, alpha=0.8)
        for name, mark in marks.items():
            axes.loglog([], [], mark, markersize=4, color=INK, label=name)
        axes.set_xlabel("FLOP for each byte that must be moved")
        axes.set_ylabel("FLOP/s")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        made.append(Picture(f"roofline-{slug(device)}", f"Roofline of {device}", figure))
    return made


def _operations(cells: Iterable[Cell]) -> list[tuple[float, float, str]]:
    """Return FLOP for each byte, FLOP/s and the benchmark of the cells that have them."""
    return [
        (c.flop / c.bytes, rate, c.benchmark)
        for c in cells
        if c.flop and c.bytes and (rate := c.rate("flop"))
    ]
