"""What programs under stages/ left in the run folder: curves of trainings, chapters of results.

<run>/stages/NAME/metrics.jsonl      one JSON object a line, with `step`: a panel of its losses
<run>/stages/NAME/samples/*.png      the last one is shown under the panel
<run>/stages/NAME/section.html       a chapter of the report; starts with <h2>its title</h2>
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avdata.errors import StoreError
from avdata.report import charts
from avdata.report.gallery import data_uri
from avdata.store import Store

FOLDER = "stages"
METRICS, SAMPLES, SECTION = "metrics.jsonl", "samples", "section.html"
MAX_CURVES = 4
MAX_POINTS = 240
SHOWN = 0.98  # share of the values that the axis covers: the first steps may tower above all others
TITLE = re.compile(r"\s*<h2>(.*?)</h2>", re.DOTALL)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter that a stage wrote: trusted HTML, which begins with its title."""

    id: str
    title: str
    html: str


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    last: str  # its last value, as text
    path: str  # SVG, in the unit square, y downwards


@dataclass(frozen=True, slots=True)
class Training:
    """The losses of one trainer over its steps, to one scale."""

    name: str
    steps: int
    curves: tuple[Curve, ...]
    low: str
    high: str
    ticks: tuple[tuple[float, str], ...]
    sample: str | None  # the last sheet of pictures, as data URI


def stages_of(store: Store, order: Sequence[str]) -> list[str]:
    """Return the names of the stages that left something, as the pipeline orders them."""
    found = store.list(FOLDER)
    return [*(name for name in order if name in found), *(n for n in found if n not in order)]


def chapters_of(store: Store, stages: Sequence[str]) -> list[Chapter]:
    """Return the chapters that stages wrote; raises StoreError for one without a title."""
    found = []
    for name in stages:
        path = f"{FOLDER}/{name}/{SECTION}"
        if not store.exists(path):
            continue
        text = store.read_bytes(path).decode()
        title = TITLE.match(text)
        if title is None:
            raise StoreError(f"{store.full(path)} must begin with <h2>its title</h2>")
        found.append(Chapter(name, html.unescape(title[1]), text))
    return found


def trainings_of(store: Store, stages: Sequence[str]) -> list[Training]:
    """Return the trainings that have logged a loss."""
    return [
        training
        for name in stages
        if store.exists(f"{FOLDER}/{name}/{METRICS}")
        and (training := _training(store, name)) is not None
    ]


def _training(store: Store, name: str) -> Training | None:
    points: dict[str, list[Point]] = defaultdict(list)
    for line in _lines(store, f"{FOLDER}/{name}/{METRICS}"):
        for key, value in line.items():
            if key.endswith("loss") and isinstance(value, float) and math.isfinite(value):
                points[key].append((line["step"], value))
    # The sum and its held-out twin first, then what they are made of.
    names = sorted(points, key=lambda n: (n.removeprefix("val_").count("_"), n))[:MAX_CURVES]
    if not names:
        return None
    thinned = {n: thin(points[n], MAX_POINTS) for n in names}
    values = sorted(y for curve in thinned.values() for _, y in curve)
    low, high = values[0], values[math.ceil(SHOWN * (len(values) - 1))]
    last = max(int(points[n][-1][0]) for n in names)
    curves = tuple(
        Curve(n, charts.number(points[n][-1][1]), _path(thinned[n], last, low, high)) for n in names
    )
    sheets = [s for s in store.list(f"{FOLDER}/{name}/{SAMPLES}") if s.endswith(".png")]
    sample = None
    if sheets:
        sample = data_uri("image/png", store.read_bytes(f"{FOLDER}/{name}/{SAMPLES}/{sheets[-1]}"))
    ticks = charts.axis_ticks(0, last)
    return Training(name, last, curves, charts.number(low), charts.number(high), ticks, sample)


def _lines(store: Store, path: str) -> Iterator[dict[str, float]]:
    with store.open(path) as file:
        for line in file:
            if line.endswith(b"\n"):  # else it is still being written
                yield json.loads(line)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` points, each the mean of as many neighbours."""
    size = math.ceil(len(points) / most)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _path(points: Sequence[Point], last: int, low: float, high: float) -> str:
    """Return an SVG path; a single point becomes a short line, so that it is seen."""
    scale = (high - low) or 1.0
    places = [(x / last, 1 - min(1.0, (y - low) / scale)) for x, y in points]
    if len(places) == 1:
        places.append((min(1.0, places[0][0] + 0.02), places[0][1]))
    return "M" + "L".join(f"{x:.4f} {y:.4f}" for x, y in places)
