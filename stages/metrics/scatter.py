"""A scatter plot as SVG text: colour tells the class, shape the modality."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PLOT, MARGIN, LINE = 560, 20, 25  # px: the plot's side, its margin, the legend's line
FONT_PX = 16  # large, as a narrow screen shows the whole plot at about half its size
CHARACTER_PX = 8.6  # about the mean width of one
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
    size = min(1.0, max(0.5, (400 / len(xy)) ** 0.25))  # many points are drawn smaller
    marks = [
        _mark(shapes.index(kind), x, PLOT - y, colour(names.index(name)), f"{name}, {kind}")
        for (x, y), name, kind in zip(places, classes, kinds, strict=True)
    ]
    legend, bottom = _legend(
        [(i, "currentColor", kind) for i, kind in enumerate(shapes)], PLOT + 26
    )
    more, bottom = _legend([(0, colour(i), name) for i, name in enumerate(names)], bottom + 6)
    height = round(bottom + 12)
    paths = "".join(
        f'<path id="{name}" d="{d}" transform="scale({size:.2f})"/>' for name, d in _PATHS.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PLOT} {height}" role="img" '
        f'aria-label="{escape(caption)}" font-family="system-ui, sans-serif" '
        f'font-size="{FONT_PX}" fill="currentColor"><defs>{paths}</defs>'
        f'<rect x=".5" y=".5" width="{PLOT - 1}" height="{PLOT - 1}" rx="12" fill="none" '
        f'stroke="currentColor" stroke-opacity=".15"/>'
        f"<g>{''.join(marks)}</g>{''.join(legend)}{''.join(more)}"
        f'<text x="2" y="{height - 6}" fill-opacity=".65">{escape(caption)}</text></svg>'
    )


def _style(shape: int, fill: str) -> str:
    """Return how a point is painted: the first shape is filled, the others are outlines."""
    return f'fill="{fill}" ' + (
        'fill-opacity=".75"' if not shape else f'fill-opacity=".12" stroke="{fill}"'
    )


def _mark(shape: int, x: float, y: float, fill: str, title: str) -> str:
    """Return one point of the plot."""
    return (
        f'<use href="#{SHAPES[shape]}" x="{x:.1f}" y="{y:.1f}" {_style(shape, fill)}>'
        f"<title>{escape(title)}</title></use>"
    )


def _legend(entries: Sequence[tuple[int, str, str]], top: float) -> tuple[list[str], float]:
    """Return (shape, colour, text)s in as many columns as their longest text allows; the end."""
    longest = max(len(text) for _, _, text in entries)
    columns = max(1, int(PLOT // (34 + CHARACTER_PX * longest)))
    parts = []
    for i, (shape, fill, text) in enumerate(entries):
        x, y = 8 + i % columns * PLOT / columns, top + LINE * (i // columns)
        parts.append(
            f'<path d="{_PATHS[SHAPES[shape]]}" transform="translate({x:.0f} {y - 5:.0f})" '
            f'{_style(shape, fill)}/><text x="{x + 14:.0f}" y="{y:.0f}">{escape(text)}</text>'
        )
    return parts, top + LINE * (1 + (len(entries) - 1) // columns)
