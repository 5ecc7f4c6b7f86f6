"""Surf on a beach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avdata.demo import canvas
from avdata.demo.canvas import Picture
from avdata.demo.timeline import Timeline


class Sea:
    """Surf: waves roll in from a blue horizon, break, and wash up a beach with each crest."""

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        self._crests = np.array([event.t_s for event in timeline.events])
        self._horizon = round(height * rng.uniform(0.26, 0.36))
        self._beach = height * rng.uniform(0.72, 0.78)
        sky = canvas.vertical(
            height,
            width,
            (0, canvas.shifted(rng, (64, 134, 214), 10)),
            (self._horizon / height, (190, 222, 242)),
            (1, (190, 222, 242)),
        )
        cloud = canvas.fractal(rng, height, width, 1.6, (0.7, 1.7))
        self._sky = canvas.blend(sky, (252, 252, 252), np.clip(cloud * 3 - 1.5, 0, 0.9))[
            : self._horizon
        ]
        rows = height - self._horizon
        near = (np.arange(rows, dtype=np.float32) + 1) / rows
        self._depth = (1 / (near + 0.05))[:, None]
        self._near = near[:, None]
        self._bend = canvas.fractal(rng, rows, width, 1.9, (0.5, 1.6))
        self._glint = canvas.fractal(rng, rows, width, 0.8, (0.5, 2.4))
        self._lace = canvas.fractal(rng, 256, 512, 1.35, (0.7, 1.3))
        self._edge = canvas.skyline(rng, width, -11, 11, 1.5)
        deep, shallow = (
            canvas.shifted(rng, (14, 74, 148), 8),
            canvas.shifted(rng, (62, 176, 192), 8),
        )
        self._colours = canvas.ramp((0, deep), (0.55, (30, 118, 178)), (1, shallow))
        grain = canvas.fractal(rng, rows, width, 0.3)
        sand = canvas.shifted(rng, (222, 198, 150), 8)
        self._sand = canvas.paint(grain, canvas.ramp((0, tuple(c * 0.86 for c in sand)), (1, sand)))

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        rows, width = self._bend.shape
        lace = np.roll(self._lace, (round(14 * t_s), round(5 * t_s)), (0, 1))[:rows, :width]
        reach, surge = self._wash(t_s)
        y = np.arange(rows, dtype=np.float32)[:, None] + self._horizon
        edge = self._beach + reach + self._edge + 4 * np.sin(np.arange(width) / 23 + 0.8 * t_s)
        inside = edge[None] - y  # pixels from the water's edge, positive in the water
        wave = np.sin(7.0 * self._depth**0.6 + 4.0 * self._bend + 1.5 * t_s)
        foam = np.maximum(self._crest_foam(wave, lace), _surf(inside, lace, surge))
        sea = canvas.blend(self._open_water(wave, t_s), (250, 253, 255), np.clip(foam, 0, 1))
        wet = np.clip(1 + inside / 26, 0, 1)
        sand = canvas.blend(self._sand, (150, 128, 100), 0.65 * wet)
        shown = canvas.blend(sand, sea, np.clip(inside / 2 + 0.5, 0, 1))
        return np.concatenate([self._sky, shown])

    def _open_water(self, wave: canvas.Texture, t_s: float) -> Picture:
        glint = np.roll(self._glint, round(9 * t_s), 1) - 0.5
        swell = 0.15 * wave * (0.4 + self._near)
        return canvas.paint(
            np.clip(0.18 + 0.55 * self._near + swell + 0.14 * glint, 0, 1), self._colours
        )

    def _crest_foam(self, wave: canvas.Texture, lace: canvas.Texture) -> canvas.Texture:
        close = np.clip(self._near * 2.2 - 0.25, 0, 0.9)
        foam = np.clip((wave - 0.86 + 0.5 * (lace - 0.4)) * 5, 0, 1)
        return np.asarray(foam * close, np.float32)

    def _wash(self, t_s: float) -> tuple[float, float]:
        """Return how far the water runs up (px) and how strongly it breaks (0 to 1)."""
        since = t_s - self._crests
        up = np.where(since < 0, np.exp(since / 0.5), np.exp(-np.maximum(since - 0.5, 0) / 1.2))
        breaks = np.where(since < 0, np.exp(since / 0.35), np.exp(-since / 0.8))
        return float(-16 + 40 * up.max(initial=0)), float(breaks.max(initial=0))


def _surf(inside: NDArray[np.floating], lace: canvas.Texture, surge: float) -> NDArray[np.floating]:
    """Return the white water: the roller that breaks, the fringe at the edge, foam between."""
    roller = np.exp(-(((inside - 34) / (9 + 7 * surge)) ** 2)) * surge
    fringe = np.clip(1 - np.abs(inside - 3) / 6, 0, 1)
    between = np.clip(inside / 40, 0, 1) * np.clip(1.3 - inside / 70, 0, 1)
    torn = np.clip((lace - 0.5) * 7, 0, 0.8)
    return np.asarray(np.maximum(0.75 * (fringe + between * torn), roller * (0.55 + 0.9 * lace)))
