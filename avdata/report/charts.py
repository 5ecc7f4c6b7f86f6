"""Charts as inline SVG and plain numbers: bars that stretch, text that does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avdata.report.facts import Pair
from avdata.report.tally import Tally, nice_edges

SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Segment:
    """One part of a bar; offset and width in percent of the chart."""

    kind: str  # a CSS class: good, bad, rejected, failed, expanded
    offset: float
    width: float
    count: int


@dataclass(frozen=True)
class Bar:
    name: str
    total: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Column:
    """One bin of a histogram; heights in percent of the tallest bin."""

    low: str
    high: str
    good: int
    bad: int
    x: float
    width: float
    good_height: float
    bad_height: float


@dataclass(frozen=True)
class Histogram:
    title: str
    unit: str
    columns: tuple[Column, ...]
    ticks: tuple[tuple[float, str], ...]  # percent, text
    tallest: int
    median: str
    span: str  # 5th to 95th percentile
    both: bool  # whether clips that were not kept are drawn too


def stacked_bars(rows: Sequence[tuple[str, Mapping[str, int]]]) -> list[Bar]:
    """Return one bar per row, its parts side by side, all to the scale of the longest."""
    longest = max((sum(parts.values()) for _, parts in rows), default=0) or 1
    bars = []
    for name, parts in rows:
        segments, offset = [], 0.0
        for kind, count in parts.items():
            width = 100 * count / longest
            if count:
                segments.append(Segment(kind, offset, width, count))
            offset += width
        bars.append(Bar(name, sum(parts.values()), tuple(segments)))
    return bars


def ranking(
    counts: Mapping[bool, Counter[Any]], name: Callable[[Any], str], limit: int
) -> list[Bar]:
    """Return bars of the most frequent names, kept clips first in each bar."""
    total = counts[True] + counts[False]
    top = sorted(total, key=lambda k: (-total[k], name(k)))[:limit]
    return stacked_bars(
        [(name(k), {"good": counts[True][k], "bad": counts[False][k]}) for k in top]
    )


def histogram(
    title: str, unit: str, pair: Pair, bounds: tuple[float, float] | None = None, bins: int = 24
) -> Histogram | None:
    """Return a stacked histogram over the central range of the values; None without values.

    Without `bounds` the axis covers the 0.5th to 99.5th percentile, and what lies outside is
    counted in the outermost bins.
    """
    both = Tally(pair.good.counts + pair.bad.counts, pair.good.count + pair.bad.count)
    if not both.count:
        return None
    low, high = bounds or (both.quantile(0.005), both.quantile(0.995))
    edges = nice_edges(low, high, bins)
    reach = edges.copy()
    reach[0], reach[-1] = min(reach[0], min(both.counts)), max(reach[-1], max(both.counts))
    good, bad = pair.good.histogram(reach), pair.bad.histogram(reach)
    tallest = max(g + b for g, b in zip(good, bad, strict=True)) or 1
    width = 100 / len(good)
    columns = tuple(
        Column(
            low=number(reach[i]),
            high=number(reach[i + 1]),
            good=g,
            bad=b,
            x=width * i,
            width=width,
            good_height=100 * g / tallest,
            bad_height=100 * b / tallest,
        )
        for i, (g, b) in enumerate(zip(good, bad, strict=True))
    )
    shown = pair.good if pair.good.count else both
    return Histogram(
        title=title,
        unit=unit,
        columns=columns,
        ticks=axis_ticks(float(edges[0]), float(edges[-1])),
        tallest=tallest,
        median=number(shown.quantile(0.5)),
        span=f"{number(shown.quantile(0.05))} to {number(shown.quantile(0.95))}",
        both=pair.bad.count > 0,
    )


def axis_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Return up to six round places along an axis."""
    marks = [m for m in nice_edges(low, high, 4) if low - 1e-9 <= m <= high + 1e-9]
    return tuple((float(100 * (m - low) / (high - low)), number(m)) for m in marks)


def number(value: float) -> str:
    """Return a number as a person writes it: three digits, thousands apart, a true minus."""
    if not np.isfinite(value):
        return "–"
    if value == round(value) or abs(value) >= 100:
        text = f"{round(value):,}".replace(",", "\u202f")
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−")


def whole(value: int) -> str:
    """Return a count with thousands apart by a narrow space."""
    return f"{value:,}".replace(",", "\u202f")


def bytes_text(count: float) -> str:
    """Return a size in the unit that suits it (powers of 1000)."""
    power = 0
    while count >= 999.5 and power < len(SIZE_UNITS) - 1:
        count, power = count / 1000, power + 1
    digits = 0 if power == 0 or count >= 99.5 else 1
    return f"{count:.{digits}f} {SIZE_UNITS[power]}"


def seconds_text(seconds: float) -> str:
    """Return a duration in the two units that suit it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole_s = round(seconds)
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60:02d} s"
    return f"{whole_s // 3600} h {whole_s % 3600 // 60:02d} min"
