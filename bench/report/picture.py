"""A picture of a report, by matplotlib: an SVG in the colours of its page, or a PNG."""

import io
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.records.labels import slug

#: Colours that colour-blind people can distinguish (M. Okabe, K. Ito, "Color universal design",
#: 2008), dark and light enough for either background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
#: A dtype has the same colour in every picture.
DTYPES = ("float32", "float16", "bfloat16", "float64")
#: Stands for the text colour of the page until the SVG is written.
INK = "#123456"
#: Letters of a machine's name in the name of a file; some systems allow 255 in all.
_OWNER = 100


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, what it shows in a sentence, and whether it is `large`.

    A page shows a large one across its columns, and scrolls it where it is wider.
    """

    name: str
    title: str
    figure: Figure
    large: bool = False

    def svg(self) -> str:
        """Return the figure as an SVG element whose ink is that of the page around it."""
        out = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        text = out.getvalue()
        return text[text.index("<svg") :].replace(INK, "currentColor")

    def png(self) -> bytes:
        """Return the figure as a PNG, dark on white."""
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=130, facecolor="white")
        return out.getvalue()


def named(pictures: Iterable[Picture], owner: str, taken: Collection[str]) -> list[Picture]:
    """Return pictures with names that every file system allows, and none of those in `taken`.

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


STYLE: dict[Any, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
}


def figure_of(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def ticks_in_words(axes: Axes, which: str, word: Callable[[float], str]) -> None:
    """Write the ticks of the axis `which`, ``x`` or ``y``, as `word` gives them."""
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(lambda value, _: word(value) if value > 0 else "")
    axis.set_minor_formatter(lambda *_: "")
