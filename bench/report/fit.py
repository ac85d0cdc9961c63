"""Text that fits a terminal (the default width): wrapped lines, tables that wrap or fold."""

import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from bench.records import params

#: The narrowest terminal that text is made for.
WIDTH = 80
#: A benchmark with one row is on one line if its name and params have so many characters.
_ONE_LINE = 27
#: The narrowest column of text, and the narrowest title of a column of figures.
_NARROW, _TITLE = 20, 12
#: What a terminal does not show: escape sequences for colours (ECMA-48, SGR).
_COLOUR = re.compile(r"\x1b\[\d*m")

#: Bars from low to high.
BARS = "▁▂▃▄▅▆▇█"
#: What stands for characters that an encoding lacks, as with LANG=C.
_PLAIN = str.maketrans(
    {"±": "+-", "✅": "passed:", "❌": "failed:"} | dict(zip(BARS, "12345678", strict=True))
)

#: A row: the name of its benchmark, and its params as in the CSV.
Name = tuple[str, str]


def terminal() -> int:
    """Return the width of the terminal, at least `WIDTH`."""
    return max(WIDTH, shutil.get_terminal_size().columns)


def encodable(text: str, encoding: str) -> str:
    """Return a text with other characters for those that the encoding lacks."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def wrap(line: str, width: int | None = None, first: str = "", further: str = "  ") -> list[str]:
    """Return a line in parts of at most `width` characters; a longer word stays whole."""
    return textwrap.wrap(
        line,
        width or terminal(),
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def fill(lines: str, width: int | None = None) -> str:
    """Return lines, each of them wrapped."""
    return "\n".join("\n".join(wrap(line, width)) for line in lines.splitlines())


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    right: str = "",
) -> str:
    """Return a table whose last column wraps; `right` is the place of each column aligned right."""
    sizes = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    width = width or terminal()
    sizes[-1] = min(sizes[-1], max(_NARROW, width - sum(size + 2 for size in sizes[:-1])))
    made = []
    for row in (headers, ["-" * size for size in sizes], *rows):
        *fixed, last = (
            f"{cell:>{size}}" if str(place) in right else f"{cell:{size}}"
            for place, (cell, size) in enumerate(zip(row, sizes, strict=True))
        )
        before = "".join(f"{cell}  " for cell in fixed)
        lines = textwrap.wrap(last, sizes[-1]) or [""]
        made += [f"{before}{line}" for line in lines[:1]]
        made += [f"{'':{len(before)}}{line}" for line in lines[1:]]
    return "\n".join(line.rstrip() for line in made)


def _size(text: str) -> int:
    return len(_COLOUR.sub("", text))


def _right(text: str, size: int) -> str:
    return " " * (size - _size(text)) + text


def folded(
    rows: Sequence[Name],
    columns: Mapping[str, Mapping[Name, str]],
    width: int | None = None,
    longest: int = 0,
) -> Iterator[str]:
    """Yield tables of as many columns as fit; a row without an entry is left out.

    Labels wrap at `longest` characters, by default only where one column would not fit beside them.
    Rows of a benchmark that follow each other and have the same params have these in a line above.
    """
    width = width or terminal()
    groups = [
        list(group)
        for _, group in itertools.groupby(rows, lambda name: (name[0], *params.split(name[1])))
    ]
    sizes, titles = {}, {}
    for title, entries in columns.items():
        widest = max(map(_size, entries.values()))
        titles[title] = textwrap.wrap(title, max(widest, min(len(title), _TITLE)))
        sizes[title] = max(widest, *map(len, titles[title]))
    longest = longest or max(_NARROW, width - 2 - max(sizes.values()))
    labels = {name: _label(name, len(group) == 1, longest) for group in groups for name in group}
    first = max(len(line) for lines in labels.values() for line in lines)
    left = list(columns)
    while left:
        count = 1
        while count < len(left) and first + sum(2 + sizes[c] for c in left[: count + 1]) <= width:
            count += 1
        shown, left = left[:count], left[count:]
        high = max(len(titles[c]) for c in shown)
        head = [[""] * (high - len(titles[c])) + titles[c] for c in shown]
        made = [
            " " * first + "".join(f"  {t:>{sizes[c]}}" for t, c in zip(line, shown, strict=True))
            for line in zip(*head, strict=True)
        ]
        made.append("-" * len(made[0]))
        for group in groups:
            here = [name for name in group if any(name in columns[c] for c in shown)]
            if here and labels[group[0]][0].startswith(" "):
                made += wrap(f"{group[0][0]}: {', '.join(params.split(group[0][1]))}", width)
            for name in here:
                *above, label = labels[name]
                cells = [_right(columns[c].get(name, ""), sizes[c]) for c in shown]
                made += [*above, "  ".join([f"{label:{first}}", *cells])]
        yield "\n".join(line.rstrip() for line in made)


def _label(name: Name, alone: bool, longest: int) -> list[str]:
    """Return the lines of the label of a row: the values of its params, below their names."""
    benchmark, given = name
    label = " ".join(filter(None, (benchmark, given.replace(";", " "))))
    if not given or (alone and len(label) <= _ONE_LINE):
        return textwrap.wrap(label, longest, subsequent_indent="  ") or ["-"]
    values = " ".join(params.split(given).values())
    return textwrap.wrap(values, longest, initial_indent="  ", subsequent_indent="    ") or ["  -"]
