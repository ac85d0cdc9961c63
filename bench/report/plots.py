"""The pictures of a report: times over sizes, loading, the parts of a step, and all of them."""

import math
import re
from collections.abc import Callable

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.compare import cells as cell_index
from bench.compare.cells import Cell, alike
from bench.report import units
from bench.report.heatmap import heatmap
from bench.report.picture import COLOURS, DTYPES, INK, STYLE, Picture, figure_of, ticks_in_words
from bench.report.roofline import rooflines
from bench.verdicts.crossover import Crossover, crossover
from bench.verdicts.named import ADD, FORWARD, LOADER, MATMUL, STEP, STEP_PART

#: Benchmarks that are drawn over their size.
_SWEPT = (STEP, FORWARD, MATMUL, ADD)


def _lines(cells: list[Cell], param: str) -> dict[tuple[str, str], dict[float, Cell]]:
    """Return the cells along a param by device and dtype; of other params the first combination."""
    sized = [cell for cell in cells if cell.number(param) and cell.estimate.seconds]
    lines: dict[tuple[str, str], dict[float, Cell]] = {}
    for cell in next(alike(sized, "device", "dtype", param=param), []):
        lines.setdefault((cell.device, cell.dtype), {})[float(cell.params[param])] = cell
    return lines


def _cpu_first(line: tuple[tuple[str, str], object]) -> tuple[bool, str, int]:
    """Sort key of lines: the CPU before other devices, dtypes in their usual order."""
    device, dtype = line[0]
    return device != "cpu", device, DTYPES.index(dtype) if dtype in DTYPES else len(DTYPES)


def over_size(cells: list[Cell]) -> list[Picture]:
    """Draw times with their intervals over the size, with crossovers between devices."""
    made = []
    for swept in _SWEPT:
        param, benchmark = swept.params[-1], swept.benchmark
        lines = _lines(swept.among(cells), param)
        if not any(len(points) > 2 for points in lines.values()):
            continue
        figure, axes = figure_of(6.4, 3.6)
        names = dict.fromkeys((*DTYPES, *(dtype for _, dtype in sorted(lines))))
        colours = dict(zip(names, COLOURS, strict=False))
        styles = dict(zip(dict.fromkeys(d for d, _ in lines), ("-", "--", ":", "-."), strict=False))
        for (device, dtype), points in sorted(lines.items(), key=_cpu_first):
            sizes = sorted(points)
            known = [points[size].estimate for size in sizes]
            middles = [one.seconds or math.nan for one in known]
            lows = [one.low or one.seconds or math.nan for one in known]
            highs = [one.high or one.seconds or math.nan for one in known]
            colour = colours.get(dtype, COLOURS[-1])
            axes.fill_between(sizes, lows, highs, color=colour, alpha=0.2, linewidth=0)
            line = {"linestyle": styles.get(device, "-"), "color": colour}
            axes.loglog(sizes, middles, marker="o", markersize=3, label=f"{device} {dtype}", **line)
        _mark_crossovers(axes, lines, colours)
        axes.set_xlabel(param)
        axes.set_ylabel("time of one call")
        ticks_in_words(axes, "y", units.seconds)
        axes.set_xticks(sorted({size for points in lines.values() for size in points})[-9:])
        ticks_in_words(axes, "x", lambda value: f"{value:,.0f}")
        axes.grid(alpha=0.25, which="major")
        axes.legend(frameon=False, fontsize=8)
        title = f"{benchmark}: time over {param}, with 95 % intervals"
        made.append(Picture(f"size-{benchmark}", title, figure))
    return made


def _mark_crossovers(
    axes: Axes, lines: dict[tuple[str, str], dict[float, Cell]], colours: dict[str, str]
) -> None:
    for (device, dtype), points in lines.items():
        base = lines.get(("cpu", dtype))
        if device == "cpu" or not base:
            continue
        sides = [{size: c.estimate for size, c in p.items()} for p in (points, base)]
        found = crossover(sides[0], sides[1])
        if isinstance(found, Crossover):
            axes.axvline(found.size, color=colours.get(dtype), linewidth=0.8, alpha=0.6)
            axes.annotate(
                f" {device} = cpu at {found.size:,.0f}",
                (found.size, 0.02),
                xycoords=("data", "axes fraction"),
                fontsize=7,
                rotation=90,
            )


def loading(cells: list[Cell]) -> list[Picture]:
    """Draw images a second over workers, a line for each batch size."""
    lines: dict[float, dict[int, float]] = {}
    for cell in LOADER.among(cells):
        batch, rate, count = cell.number("batch"), cell.rate("items"), cell.params["workers"]
        if batch and rate and re.fullmatch(r"\d{1,6}", count):
            lines.setdefault(batch, {})[int(count)] = rate
    if not any(len(points) > 1 for points in lines.values()):
        return []
    figure, axes = figure_of(6.4, 3.4)
    for (batch, points), colour in zip(sorted(lines.items()), COLOURS, strict=False):
        counts = sorted(points)
        rates = [points[n] for n in counts]
        axes.plot(counts, rates, marker="o", color=colour, label=f"batch {batch:.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")
    axes.set_ylabel("images a second")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return [Picture("loading", "DataLoader: images a second over workers", figure)]


def step_parts(cells: list[Cell]) -> list[Picture]:
    """Draw the parts of a training step as stacked bars, and the whole as a line."""
    bars: dict[str, dict[str, float]] = {}
    for cell in STEP_PART.among(cells):
        if cell.estimate.seconds:
            bar = bars.setdefault(f"{cell.device} {cell.dtype}", {})
            bar[cell.params["part"]] = cell.estimate.seconds
    bars = {name: parts for name, parts in bars.items() if len(parts) > 1}
    if not bars:
        return []
    figure, axes = figure_of(6.4, 0.9 + 0.5 * len(bars))
    parts = list(dict.fromkeys(p for bar in bars.values() for p in bar if p != "whole"))
    left = dict.fromkeys(bars, 0.0)
    for part, colour in zip(parts, COLOURS, strict=False):
        widths = [1e3 * bar.get(part, 0.0) for bar in bars.values()]
        axes.barh(list(bars), widths, left=list(left.values()), color=colour, label=part)
        left = {name: left[name] + width for name, width in zip(bars, widths, strict=True)}
    for place, bar in enumerate(bars.values()):
        if "whole" in bar:
            axes.plot([1e3 * bar["whole"]] * 2, [place - 0.4, place + 0.4], color=INK, lw=2)
    axes.set_xlabel("ms; the upright line is the whole step")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    return [Picture("step", "Where the time of a training step goes", figure)]


#: Each draws what the cells of a machine give, in the order of the report.
PICTURES: tuple[Callable[[list[Cell]], list[Picture]], ...] = (
    *(heatmap, over_size, loading, step_parts, rooflines),
)


def of(frame: pd.DataFrame) -> list[Picture]:
    """Return the pictures that the rows of one machine give."""
    cells = cell_index.of(frame)
    with mpl.rc_context(STYLE):
        return [picture for draw in PICTURES for picture in draw(cells)]
