"""The heat map of a report: device and dtype against benchmark."""

import math

from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import FuncFormatter

from bench.compare.cells import Cell, alike
from bench.report import units
from bench.report.phrases import cut
from bench.report.picture import INK, Picture, figure_of

#: Where the colours end: a factor of 8, and of 2 at least, as powers of 2.
_MOST, _LEAST = 3.0, 1.0
#: Letters of the name of a row.
_LETTERS = 48
#: The device and dtype that the times are divided by.
_BASE = ("cpu", "float32")

_Places = dict[tuple[str, str], Cell]


def _comparable(cells: list[Cell]) -> list[_Places]:
    """Return the cells of each benchmark at one set of params, by device and dtype.

    float32 on the CPU must have a time there. Of such params it takes those with the most devices
    and dtypes, then those with the most times, then the largest.
    """

    def rank(places: _Places) -> tuple[float, ...]:
        timed = sum(cell.estimate.seconds is not None for cell in places.values())
        return len(places), timed, places[_BASE].items or 0

    found: dict[tuple[str, str], _Places] = {}
    for group in alike(cells, "device", "dtype"):
        places = {(cell.device, cell.dtype): cell for cell in group}
        if _BASE in places and places[_BASE].estimate.seconds:
            name = group[0].family, group[0].benchmark
            found[name] = max(found.get(name, places), places, key=rank)
    names = dict.fromkeys((cell.family, cell.benchmark) for cell in cells)
    return [found[name] for name in names if name in found]


def heatmap(cells: list[Cell]) -> list[Picture]:
    """Draw the ratio to float32 on the CPU of each benchmark at its largest common size."""
    rows = [
        (_label(by_place[_BASE]), by_place[_BASE].estimate.seconds or math.nan, by_place)
        for by_place in _comparable(cells)
        if len(by_place) > 1
    ]
    found = dict.fromkeys(place for _, _, by_place in rows for place in by_place)
    places = sorted(found, key=lambda place: (place[0] != "cpu", place[0], place[1] != "float32"))
    if not rows:
        return []
    figure, axes = figure_of(4.4 + 1.1 * len(places), 1 + 0.24 * len(rows))
    values = [
        [
            math.log2(cell.estimate.seconds / base)
            if (cell := by_place.get(place)) and cell.estimate.seconds
            else math.nan
            for place in places
        ]
        for _, base, by_place in rows
    ]
    # The colours of each side end where its ratios do, so that small ones remain visible.
    known = [value for line in values for value in line if not math.isnan(value)]
    low, high = (min(max(end, _LEAST), _MOST) for end in (-min(known), max(known)))
    norm = TwoSlopeNorm(0, -low, high)
    image = axes.imshow(values, aspect="auto", cmap="RdBu_r", norm=norm)
    axes.set_xticks(range(len(places)), [f"{device}\n{dtype}" for device, dtype in places])
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for y, (line, (_, _, by_place)) in enumerate(zip(values, rows, strict=True)):
        for x, value in enumerate(line):
            cell = by_place.get(places[x])
            if math.isnan(value):
                text, colour = cell.estimate.status if cell else "", INK
            else:
                text = f"{units.factor(2**value)}x"
                colour = "white" if abs(norm(value) - 0.5) > 0.3 else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=colour)
    ticks = FuncFormatter(lambda power, _: f"{units.factor(2**power)}x")
    label = "times as long: red is slower"
    ends = "min" * (min(known) < -low) + "max" * (max(known) > high)
    extend = {"minmax": "both", "": "neither"}.get(ends, ends)
    figure.colorbar(image, ax=axes, shrink=0.5, label=label, format=ticks, extend=extend)
    title = "Times as long as float32 on the CPU, at the largest size they share"
    return [Picture("heatmap", title, figure, large=True)]


def _label(cell: Cell) -> str:
    """Return the benchmark and its params, cut where a row has no room."""
    words = " ".join((cell.name, *(f"{name}={value}" for name, value in cell.params.items())))
    return cut(words, _LETTERS)
