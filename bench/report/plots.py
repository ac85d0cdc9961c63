"""The pictures of a report, by matplotlib: as SVG that takes the colours of its page, or as PNG."""

import io
import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench import units
from bench.compare import cells as cell_index
from bench.compare.cells import Cell
from bench.compare.sweeps import Crossover, crossover
from bench.labels import slug

#: Colours that tell from each other by people who see colours differently (M. Okabe, K. Ito, "Color
#: universal design", 2008), dark and light enough for either background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
#: A dtype has the same colour in every picture.
_DTYPES = ("float32", "float16", "bfloat16", "float64")
#: Shapes of points, as far as they tell from each other.
_MARKS = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">", "p", "d", "1", "2", "+", "x")
#: Stands for the text colour of the page until the SVG is written.
_INK = "#123456"
#: Benchmarks that are drawn over their size, as far as they are there.
_SWEPT = (("training", "step"), ("training", "forward"), ("tensors", "matmul"), ("tensors", "add"))
#: Rows of the heat map; the rest are in the table.
_HEAT_ROWS = 45
#: What the times of the heat map are divided by.
_BASE = ("cpu", "float32")
#: Letters of a machine's name in the name of a file, which some systems allow 255 in all.
_OWNER = 100


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, and what it shows in a sentence."""

    name: str
    title: str
    figure: Figure

    def svg(self) -> str:
        """Return the figure as an SVG element whose ink is that of the page around it."""
        out = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        text = out.getvalue()
        return text[text.index("<svg") :].replace(_INK, "currentColor")

    def png(self) -> bytes:
        """Return the figure as a PNG, dark on white."""
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=130, facecolor="white")
        return out.getvalue()


def named(pictures: Iterable[Picture], owner: str, taken: Collection[str]) -> list[Picture]:
    """Return pictures under names that are those of files on every system, and none in `taken`.

    The name of the `owner` comes first, unless it is blank.
    """
    made, names = [], set(taken)
    for picture in pictures:
        stem = name = "-".join(filter(None, (slug(owner)[:_OWNER], slug(picture.name))))
        number = 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.add(name)
        made.append(replace(picture, name=name))
    return made


_STYLE: dict[Any, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
}


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _ticks_in_words(axes: Axes, which: str, word: Callable[[float], str]) -> None:
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(lambda value, _: word(value) if value > 0 else "")
    axis.set_minor_formatter(lambda *_: "")


_Places = dict[tuple[str, str], Cell]


def _comparable(cells: Iterable[Cell]) -> dict[tuple[str, str], _Places]:
    """Return the cells of each benchmark with the same params, by device and dtype.

    These are the params that most devices and dtypes have, float32 on the CPU with a time; then
    those that most have a time for, and of them the largest. Times of different sizes are no ratio.
    """
    found: dict[tuple[str, str], dict[tuple[object, ...], _Places]] = {}
    for cell in cells:
        alike = found.setdefault((cell.family, cell.benchmark), {})
        alike.setdefault(tuple(cell.params.items()), {})[cell.device, cell.dtype] = cell

    def rank(places: _Places) -> tuple[float, ...]:
        timed = sum(cell.estimate.seconds is not None for cell in places.values())
        return len(places), timed, places[_BASE].items or 0

    return {
        name: max(based, key=rank)
        for name, alike in found.items()
        if (based := [p for p in alike.values() if _BASE in p and p[_BASE].estimate.seconds])
    }


def heat_map(cells: list[Cell]) -> Picture | None:
    """Draw the ratio to float32 on the CPU of each benchmark at its largest common size."""
    rows = [
        (benchmark, by_place[_BASE].estimate.seconds or math.nan, by_place)
        for (_, benchmark), by_place in _comparable(cells).items()
        if len(by_place) > 1
    ][:_HEAT_ROWS]
    found = dict.fromkeys(place for _, _, by_place in rows for place in by_place)
    places = sorted(found, key=lambda place: (place[0] != "cpu", place[0], place[1] != "float32"))
    if not rows:
        return None
    figure, (axes,) = _figure(2.2 + 1.1 * len(places), 1 + 0.24 * len(rows))
    values = [
        [
            math.log2(cell.estimate.seconds / base)
            if (cell := by_place.get(place)) and cell.estimate.seconds
            else math.nan
            for place in places
        ]
        for _, base, by_place in rows
    ]
    image = axes.imshow(values, aspect="auto", cmap="RdBu_r", norm=TwoSlopeNorm(0, -6, 6))
    axes.set_xticks(range(len(places)), [f"{device}\n{dtype}" for device, dtype in places])
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for y, (line, (_, _, by_place)) in enumerate(zip(values, rows, strict=True)):
        for x, value in enumerate(line):
            cell = by_place.get(places[x])
            if math.isnan(value):
                text, colour = cell.estimate.status if cell else "", _INK
            else:
                text = f"{units.significant(2**value, 2)}x"
                colour = "white" if abs(value) > 3.5 else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.5, label="log2 of the ratio: red is slower")
    return Picture(
        "heatmap", "Times as long as float32 on the CPU, at the largest size they share", figure
    )


def _lines(cells: list[Cell], param: str) -> dict[tuple[str, str], dict[float, Cell]]:
    """Return the cells along a param by device and dtype; of other params the first combination."""
    rest_of_first = None
    lines: dict[tuple[str, str], dict[float, Cell]] = {}
    for cell in cells:
        size = cell.number(param)
        rest = {name: value for name, value in cell.params.items() if name != param}
        if size is None or not cell.estimate.seconds:
            continue
        rest_of_first = rest if rest_of_first is None else rest_of_first
        if rest == rest_of_first:
            lines.setdefault((cell.device, cell.dtype), {})[size] = cell
    return lines


def _cpu_first(line: tuple[tuple[str, str], object]) -> tuple[bool, str, int]:
    """Sort key of lines: the CPU before other devices, dtypes in their usual order."""
    device, dtype = line[0]
    return device != "cpu", device, _DTYPES.index(dtype) if dtype in _DTYPES else len(_DTYPES)


def over_size(cells: list[Cell]) -> list[Picture]:
    """Draw the time of an item over the size, with crossovers between devices."""
    made = []
    for family, benchmark in _SWEPT:
        here = [c for c in cells if (c.family, c.benchmark) == (family, benchmark)]
        param = "batch" if family == "training" else "n"
        lines = _lines(here, param)
        if not any(len(points) > 2 for points in lines.values()):
            continue
        figure, (axes,) = _figure(6.4, 3.6)
        names = dict.fromkeys((*_DTYPES, *(dtype for _, dtype in sorted(lines))))
        colours = dict(zip(names, COLOURS, strict=False))
        styles = dict(zip(dict.fromkeys(d for d, _ in lines), ("-", "--", ":", "-."), strict=False))
        for (device, dtype), points in sorted(lines.items(), key=_cpu_first):
            sizes = sorted(points)
            axes.loglog(
                sizes,
                [points[size].estimate.seconds or math.nan for size in sizes],
                marker="o",
                markersize=3,
                linestyle=styles.get(device, "-"),
                color=colours.get(dtype, COLOURS[-1]),
                label=f"{device} {dtype}",
            )
        _mark_crossovers(axes, lines, colours)
        axes.set_xlabel(param)
        axes.set_ylabel("time of one call")
        _ticks_in_words(axes, "y", units.seconds)
        axes.set_xticks(sorted({size for points in lines.values() for size in points})[-9:])
        _ticks_in_words(axes, "x", lambda value: f"{value:,.0f}")
        axes.grid(alpha=0.25, which="major")
        axes.legend(frameon=False, fontsize=8)
        made.append(Picture(f"size-{benchmark}", f"{benchmark}: time over {param}", figure))
    return made


def _mark_crossovers(
    axes: Axes, lines: dict[tuple[str, str], dict[float, Cell]], colours: dict[str, str]
) -> None:
    for (device, dtype), points in lines.items():
        base = lines.get(("cpu", dtype))
        if device == "cpu" or not base:
            continue
        sides = [{size: c.estimate for size, c in p.items()} for p in (points, base)]
        found = crossover(*sides)
        if isinstance(found, Crossover):
            axes.axvline(found.size, color=colours.get(dtype), linewidth=0.8, alpha=0.6)
            axes.annotate(
                f" {device} = cpu at {found.size:,.0f}",
                (found.size, 0.02),
                xycoords=("data", "axes fraction"),
                fontsize=7,
                rotation=90,
            )


def loading(cells: list[Cell]) -> Picture | None:
    """Draw images a second over workers, a line for each batch size."""
    lines: dict[float, dict[int, float]] = {}
    for cell in cells:
        if cell.benchmark != "loader" or "workers" not in cell.params:
            continue
        batch, rate, count = cell.number("batch"), cell.rate(cell.items), cell.params["workers"]
        if batch and rate and re.fullmatch(r"\d{1,6}", count):
            lines.setdefault(batch, {})[int(count)] = rate
    if not any(len(points) > 1 for points in lines.values()):
        return None
    figure, (axes,) = _figure(6.4, 3.4)
    for (batch, points), colour in zip(sorted(lines.items()), COLOURS, strict=False):
        counts = sorted(points)
        axes.plot(
            counts,
            [points[n] for n in counts],
            marker="o",
            color=colour,
            label=f"batch {batch:.0f}",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")
    axes.set_ylabel("images a second")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return Picture("loading", "DataLoader: images a second over workers", figure)


def step_parts(cells: list[Cell]) -> Picture | None:
    """Draw the parts of a training step as stacked bars, beside the whole."""
    bars: dict[str, dict[str, float]] = {}
    for cell in cells:
        if cell.benchmark == "step_part" and cell.estimate.seconds:
            bar = bars.setdefault(f"{cell.device} {cell.dtype}", {})
            bar[cell.params.get("part", "")] = cell.estimate.seconds
    bars = {name: parts for name, parts in bars.items() if len(parts) > 1}
    if not bars:
        return None
    figure, (axes,) = _figure(6.4, 0.9 + 0.5 * len(bars))
    parts = list(dict.fromkeys(p for bar in bars.values() for p in bar if p != "whole"))
    left = dict.fromkeys(bars, 0.0)
    for part, colour in zip(parts, COLOURS, strict=False):
        widths = [1e3 * bar.get(part, 0.0) for bar in bars.values()]
        axes.barh(list(bars), widths, left=list(left.values()), color=colour, label=part)
        left = {name: left[name] + width for name, width in zip(bars, widths, strict=True)}
    for place, bar in enumerate(bars.values()):
        if "whole" in bar:
            axes.plot([1e3 * bar["whole"]] * 2, [place - 0.4, place + 0.4], color=_INK, lw=2)
    axes.set_xlabel("ms; the upright line is the whole step")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    return Picture("step", "Where the time of a training step goes", figure)


def rooflines(cells: list[Cell]) -> list[Picture]:
    """Draw each device's operations under its measured peaks.

    S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
    """
    made = []
    for device in dict.fromkeys(cell.device for cell in cells):
        here = [c for c in cells if c.device == device]
        moved = [r for c in here if c.benchmark == "copy" and (r := c.rate(c.bytes))]
        points = {dtype: _operations(c for c in here if c.dtype == dtype) for dtype in _DTYPES}
        points = {dtype: found for dtype, found in points.items() if len(found) > 2}
        if not moved or not points:
            continue
        figure, (axes,) = _figure(6.4, 4.2)
        every = [point for found in points.values() for point in found]
        low, high = min(x for x, _, _ in every) / 2, max(x for x, _, _ in every) * 2
        ridge = min(max(max(rate for _, rate, _ in every) / max(moved), low), high)
        axes.loglog((low, ridge), (low * max(moved), ridge * max(moved)), color=_INK, linewidth=1)
        marks = dict(zip(dict.fromkeys(name for _, _, name in every), _MARKS * 9, strict=False))
        for dtype, found in points.items():
            colour, top = COLOURS[_DTYPES.index(dtype)], max(rate for _, rate, _ in found)
            left = min(max(top / max(moved), low), high)
            axes.loglog((left, high), (top, top), color=colour, linewidth=1, label=dtype)
            for x, rate, name in found:
                axes.loglog(x, rate, marks[name], markersize=4, color=colour, alpha=0.8)
        for name, mark in marks.items():
            axes.loglog([], [], mark, markersize=4, color=_INK, label=name)
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
        if c.flop and c.bytes and (rate := c.rate(c.flop))
    ]


def of(frame: pd.DataFrame) -> list[Picture]:
    """Return the pictures that the rows of one machine give."""
    cells = cell_index.of(frame)
    with mpl.rc_context(_STYLE):
        drawn = [heat_map(cells), *over_size(cells), loading(cells), step_parts(cells)]
        return [picture for picture in (*drawn, *rooflines(cells)) if picture]
