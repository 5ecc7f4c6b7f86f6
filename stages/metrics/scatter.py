"""A scatter plot as SVG text: colour tells the class, shape the modality."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

WIDTH, PLOT, MARGIN, LINE = 760, 520, 18, 21  # px
SHAPES = ("circle", "diamond", "triangle", "square")
_PATHS = {  # around (0, 0), of equal area
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "triangle": "M0-5.4L5.4 3.9L-5.4 3.9z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
}


def colour(index: int) -> str:
    """Return the index-th class colour: hues a golden angle apart, readable on light and dark."""
    hue = (0.58 + index * 0.381966) % 1
    lightness = (0.46, 0.58)[index // 12 % 2]
    red, green, blue = (round(255 * c) for c in colorsys.hls_to_rgb(hue, lightness, 0.6))
    return f"#{red:02x}{green:02x}{blue:02x}"


def scatter_svg(
    points: ArrayLike, classes: Sequence[str], kinds: Sequence[str], caption: str
) -> str:
    """Return a standalone SVG of points [N, 2]; `classes` and `kinds` name each one's [N].

    Classes are coloured in sorted order and kinds shaped in order of appearance; hovering a point
    names it. Raises ValueError for lengths that disagree and for more than four kinds.
    """
    xy = np.asarray(points, np.float64)
    if xy.shape != (len(classes), 2) or len(kinds) != len(classes):
        raise ValueError(
            f"points must be [N, 2] with N classes and kinds, got {xy.shape}, {len(classes)} and "
            f"{len(kinds)}"
        )
    names, shapes = sorted(set(classes)), list(dict.fromkeys(kinds))
    if len(shapes) > len(SHAPES):
        raise ValueError(f"at most {len(SHAPES)} kinds can be told apart, got {len(shapes)}")
    low, span = xy.min(axis=0), np.ptp(xy, axis=0)
    scale = (PLOT - 2 * MARGIN) / max(float(span.max()), 1e-12)
    places = MARGIN + (xy - low + (span.max() - span) / 2) * scale
    marks = [
        f'<use href="#{SHAPES[shapes.index(kind)]}" x="{x:.1f}" y="{PLOT - y:.1f}" '
        f'fill="{colour(names.index(name))}"><title>{escape(f"{name}, {kind}")}</title></use>'
        for (x, y), name, kind in zip(places, classes, kinds, strict=True)
    ]
    rows = [(SHAPES[i], "currentColor", kind) for i, kind in enumerate(shapes)]
    rows += [("circle", colour(i), name) for i, name in enumerate(names)]
    left = PLOT + 22
    legend = [
        f'<use href="#{shape}" x="{left}" y="{MARGIN + 8 + LINE * i}" fill="{fill}"/>'
        f'<text x="{left + 14}" y="{MARGIN + 12 + LINE * i}">{escape(text)}</text>'
        for i, (shape, fill, text) in enumerate(rows)
    ]
    height = max(PLOT, MARGIN + LINE * len(rows)) + 30
    paths = "".join(f'<path id="{name}" d="{d}"/>' for name, d in _PATHS.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(caption)}" font-family="system-ui, sans-serif" font-size="13" '
        f'fill="currentColor"><defs>{paths}</defs>'
        f'<rect x=".5" y=".5" width="{PLOT - 1}" height="{PLOT - 1}" rx="12" fill="none" '
        f'stroke="currentColor" stroke-opacity=".15"/>'
        f'<g fill-opacity=".8">{"".join(marks)}</g>{"".join(legend)}'
        f'<text x="2" y="{height - 8}" fill-opacity=".65">{escape(caption)}</text></svg>'
    )
