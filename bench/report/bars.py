"""A small picture of ratios with their intervals, as SVG that takes the colours of its page."""

import html
import math
from collections.abc import Sequence

from bench.records.lines import shortened
from bench.report import units
from bench.stats.ratios import Ratio
from bench.verdicts.finding import Finding
from bench.verdicts.grouped import Several

#: Rows of a picture at most, and its measures in units of the SVG.
MOST, ROW, LABEL, WIDTH, EDGE = 18, 18, 205, 405, 8
#: Characters that fit into a label.
FITS = 32
#: The axis reaches at least this factor to either side of 1, and as far as the ratios on it.
LEAST = 1.5


def of(findings: Sequence[Finding]) -> str:
    """Return the picture of the findings that have a ratio; a blank if there are fewer than two."""
    rows = [(_words(one), one.ratio) for one in findings if one.ratio][:MOST]
    if len(rows) < 2:
        return ""
    # What all rows share is no part of their labels.
    kept = [len({words[place] for words, _ in rows}) > 1 for place in range(4)]
    labels = [
        " ".join(word for word, keep in zip(words, kept, strict=True) if keep and word)
        for words, _ in rows
    ]
    return svg([(label, ratio) for label, (_, ratio) in zip(labels, rows, strict=True)])


def _words(one: Finding) -> tuple[str, str, str, str]:
    subject = one.subject
    params = " ".join(map(str, subject.params.values()))
    name = one.group if isinstance(one, Several) else subject.benchmark
    return subject.dtype, subject.device, name, params


def svg(rows: Sequence[tuple[str, Ratio]]) -> str:
    """Return a line for each ratio on a logarithmic axis, slower to the right of 1."""
    ends = [math.log(end) for _, ratio in rows for end in (ratio.low, ratio.high) if end > 0]
    known = [math.log(LEAST), -math.log(LEAST), *filter(math.isfinite, ends)]
    least, most = min(known), max(known)
    scale = (WIDTH - LABEL - 2 * EDGE) / (most - least)

    def x(ratio: float) -> float:
        bounded = min(max(ratio, math.exp(least)), math.exp(most))
        return round(LABEL + EDGE + scale * (math.log(bounded) - least), 1)

    middle = x(1)
    height = ROW * (len(rows) + 1)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="ratios with intervals">',
        f'<line x1="{middle}" x2="{middle}" y1="0" y2="{height - ROW}" stroke="var(--line)"/>',
    ]
    for number, (label, ratio) in enumerate(rows):
        y = ROW * (number + 0.5)
        parts.append(
            f'<text x="{LABEL - EDGE}" y="{y + 4}" text-anchor="end">'
            f"{html.escape(shortened(label, FITS))}<title>{html.escape(label)}</title></text>"
            f'<line x1="{x(ratio.low)}" x2="{x(ratio.high)}" y1="{y}" y2="{y}" '
            'stroke="var(--mark)" stroke-width="3" stroke-linecap="round"/>'
            f'<circle cx="{x(ratio.value)}" cy="{y}" r="4" fill="var(--mark)"/>'
        )
    for at, text, anchor in (
        (LABEL + EDGE, f"{units.factor(math.exp(-least))}x faster", "start"),
        (WIDTH - EDGE, f"{units.factor(math.exp(most))}x slower", "end"),
    ):
        parts.append(f'<text x="{at}" y="{height - 5}" text-anchor="{anchor}">{text}</text>')
    return "".join([*parts, "</svg>"])
