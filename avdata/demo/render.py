"""From the course of a video to its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from avdata.demo import canvas
from avdata.demo.canvas import Picture
from avdata.demo.grove import Grove
from avdata.demo.rain import Downpour, Pond
from avdata.demo.sea import Sea
from avdata.demo.storm import Storm
from avdata.demo.stream import Stream
from avdata.demo.timeline import FPS, HEIGHT_PX, PAN_S, WIDTH_PX, Shot, Timeline
from avdata.demo.walk import Walk

MARGIN_PX = 10  # how far a hand-held camera may stray


class View(Protocol):
    """Something to look at."""

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        ...


def frames(timeline: Timeline) -> Iterator[Picture]:
    """Yield the frames in order, uint8 [HEIGHT_PX, WIDTH_PX, 3]."""
    width, height = WIDTH_PX + 2 * MARGIN_PX, HEIGHT_PX + 2 * MARGIN_PX
    source = _source(timeline, width, height)
    others = {
        name: Elsewhere(name, timeline, width, height)
        for name in sorted({shot.view for shot in timeline.shots} - {"source"})
    }
    views: dict[str, View] = {"source": source, **others}
    drift = _drift(timeline)
    if timeline.still:
        photo = _crop(source.frame(0.0), drift[0])
        yield from (photo for _ in range(timeline.frames))
        return
    for index in range(timeline.frames):
        t_s = index / FPS
        ended = sum(shot.end_s <= t_s for shot in timeline.shots)
        now = min(ended, len(timeline.shots) - 1)
        yield _look(views, timeline.shots, now, t_s, drift[index])


def _look(
    views: dict[str, View], shots: tuple[Shot, ...], now: int, t_s: float, drift: tuple[int, int]
) -> Picture:
    shot = shots[now]
    picture = _crop(views[shot.view].frame(t_s), drift)
    part = (t_s - shot.start_s) / PAN_S
    if not shot.pan or part >= 1:
        return picture
    before = _crop(views[shots[now - 1].view].frame(t_s), drift)
    gone = round(WIDTH_PX * part * part * (3 - 2 * part))
    return np.concatenate([before[:, gone:], picture[:, :gone]], 1)


def _crop(picture: Picture, drift: tuple[int, int]) -> Picture:
    top, left = MARGIN_PX + drift[0], MARGIN_PX + drift[1]
    return picture[top : top + HEIGHT_PX, left : left + WIDTH_PX]


def _drift(timeline: Timeline) -> list[tuple[int, int]]:
    """Return the camera's slow wander, (down, right) in pixels for each frame."""
    rng = timeline.rng("camera")
    t = np.arange(timeline.frames) / FPS
    reach = rng.uniform(2, MARGIN_PX - 1, 2)
    rates, phases = rng.uniform(0.05, 0.14, 2), rng.uniform(0, 6.28, 2)
    down, right = (
        (reach[axis] * np.sin(2 * np.pi * rates[axis] * t + phases[axis])).round().astype(int)
        for axis in (0, 1)
    )
    return list(zip(down.tolist(), right.tolist(), strict=True))


class Elsewhere:
    """A view that tells nothing of what sounds: plain sky, a trunk, a blurred meadow."""

    def __init__(self, name: str, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng(f"picture/{name}")
        if name == "sky":
            cloud = canvas.fractal(rng, height, width, 1.9, (1.6, 1.0))
            light = canvas.shifted(rng, (222, 216, 206), 6)
            self._picture = canvas.paint(
                cloud, canvas.ramp((0, (176, 174, 172)), (0.6, light), (1, (240, 236, 228)))
            )
        elif name == "bark":
            grain = 0.6 * canvas.fractal(rng, height, width, 1.3, (0.22, 1.6)[::-1])
            grain += 0.4 * canvas.fractal(rng, height, width, 0.9, (2.5, 0.6))
            light = canvas.shifted(rng, (142, 112, 84), 8)
            self._picture = canvas.paint(
                grain, canvas.ramp((0.15, (40, 28, 22)), (0.5, (94, 70, 50)), (0.85, light))
            )
        else:
            blades = canvas.fractal(rng, height, width, 1.2, (1.8, 0.5))
            light = canvas.shifted(rng, (202, 176, 112), 8)
            self._picture = canvas.blurred(
                canvas.paint(
                    blades, canvas.ramp((0.1, (96, 78, 46)), (0.5, (156, 132, 80)), (0.9, light))
                ),
                2.5,
            )

    def frame(self, t_s: float) -> Picture:
        """Return the same still view at any time."""
        return self._picture


def _source(timeline: Timeline, width: int, height: int) -> View:
    views: dict[str, type] = {
        "snow_steps": Walk,
        "gravel_steps": Walk,
        "light_rain": Pond,
        "heavy_rain": Downpour,
        "birds": Grove,
        "ocean": Sea,
        "stream": Stream,
        "thunderstorm": Storm,
    }
    view: View = views[timeline.kind](timeline, width, height)
    return view
