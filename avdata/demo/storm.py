"""Storms over open land."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from avdata.demo import canvas
from avdata.demo.canvas import Picture
from avdata.demo.timeline import FPS, Timeline

FLASH = (1.0, 0.35, 0.85, 0.5, 0.25, 0.1)  # brightness of a lightning, frame by frame
DELAY_S = 1 / FPS  # a near strike: light comes one frame before sound


class Storm:
    """Dark clouds race over bending grass; lightning strikes at each thunderclap."""

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        self._strikes = np.array([event.t_s - DELAY_S for event in timeline.events])
        self._width, self._height = width, height
        self._horizon = round(height * rng.uniform(0.66, 0.76))
        self._low = canvas.fractal(rng, self._horizon, 512, 1.7, (0.55, 1.5))
        self._high = canvas.fractal(rng, self._horizon, 512, 1.4, (0.6, 1.4))
        light = canvas.shifted(rng, (150, 142, 178), 8)
        self._colours = canvas.ramp(
            (0.15, (26, 22, 40)), (0.45, (62, 56, 86)), (0.65, (102, 96, 132)), (0.9, light)
        )
        drop = np.linspace(-0.14, 0.16, self._horizon, dtype=np.float32)
        self._drop = drop[:, None]
        self._land = _land(rng, height, width, self._horizon)
        self._tree_x = width * rng.choice([rng.uniform(0.12, 0.3), rng.uniform(0.7, 0.88)])
        self._tree = _tree(rng)
        self._grass = rng.uniform(0, 1, (420, 3))
        self._sway = rng.uniform(0, 6.28)
        self._speed = float(rng.uniform(26, 44))
        self._bolts = [_bolt(rng, width, self._horizon) for _ in timeline.events]

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        left, far = round(self._speed * t_s), round(0.5 * self._speed * t_s)
        low = np.roll(self._low, -left, 1)[:, : self._width]
        high = np.roll(self._high, -far, 1)[:, : self._width]
        flash, strike = self._lightning(t_s)
        clouds = 0.55 * low + 0.45 * high + self._drop + 0.2 * flash * high
        picture = np.empty((self._height, self._width, 3), np.uint8)
        picture[: self._horizon] = canvas.paint(np.clip(clouds, 0, 1), self._colours)
        picture[self._horizon :] = self._land[self._horizon :]
        if flash:
            glow, core = self._bolts[strike]
            sky = picture[: self._horizon]
            sky = canvas.blend(sky, (214, 204, 255), 0.42 * flash)
            sky = canvas.blend(sky, (196, 186, 255), 0.8 * flash * glow)
            picture[: self._horizon] = canvas.blend(
                sky, (255, 255, 255), min(1.0, 1.4 * flash) * core
            )
            ground = picture[self._horizon :]
            picture[self._horizon :] = canvas.blend(ground, (176, 176, 200), 0.3 * flash)
        self._bend(picture, t_s)
        return picture

    def _lightning(self, t_s: float) -> tuple[float, int]:
        """Return how bright the lightning is and which strike it is."""
        since = np.floor((t_s - self._strikes) * FPS + 0.5).astype(int)
        for strike, frame in enumerate(since):
            if 0 <= frame < len(FLASH):
                return FLASH[frame], strike
        return 0.0, 0

    def _bend(self, picture: Picture, t_s: float) -> None:
        """Draw the tree and the grass, leaning with the gusts."""
        gust = 0.55 + 0.3 * np.sin(1.9 * t_s + self._sway) + 0.15 * np.sin(5.3 * t_s)
        tree = _leaning(self._tree, 0.34 * gust)
        canvas.stamp(picture, tree, self._tree_x - 70, self._horizon - tree.shape[0] + 14)
        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        for across, near, tall in self._grass[np.argsort(self._grass[:, 1])]:
            x = across * (self._width + 40) - 20
            y = self._horizon + 6 + near * (self._height - self._horizon + 12)
            size = (8 + 24 * near) * (0.6 + 0.6 * tall)
            lean = size * (0.25 + 0.85 * gust + 0.15 * np.sin(6 * t_s + 9 * across))
            shade = 0.7 + 0.5 * tall
            fill = (int(44 * shade), int(56 * shade), int(48 * shade))
            tip = (x + lean, y - size)
            pen.line([(x, y), (x + 0.3 * lean, y - 0.6 * size), tip], fill, 1 + int(near > 0.5))
        picture[:] = np.asarray(image)


def _land(rng: np.random.Generator, height: int, width: int, horizon: int) -> Picture:
    rough = canvas.fractal(rng, height, width, 1.2, (0.6, 1.6))
    return canvas.paint(
        rough, canvas.ramp((0.2, (22, 28, 28)), (0.5, (40, 50, 44)), (0.9, (66, 78, 62)))
    )


def _tree(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a wind-beaten tree, a dark sprite."""

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        def branch(x: float, y: float, angle: float, length: float, thick: float) -> None:
            x1, y1 = x + length * np.cos(angle), y - length * np.sin(angle)
            pen.line([(x * s, y * s), (x1 * s, y1 * s)], (18, 18, 24), max(1, round(thick * s)))
            if length < 6:
                r = rng.uniform(2.5, 5.5)
                box = [(x1 - r) * s, (y1 - 0.7 * r) * s, (x1 + r) * s, (y1 + 0.7 * r) * s]
                pen.ellipse(box, (24, 30, 30, 235))
                return
            for turn in (rng.uniform(0.2, 0.55), -rng.uniform(0.2, 0.55)):
                branch(x1, y1, angle + turn, length * rng.uniform(0.68, 0.82), thick * 0.66)

        branch(70, 118, np.pi / 2, 28, 6)

    return canvas.sprite(140, 120, draw)


def _leaning(shape: NDArray[np.float32], lean: float) -> NDArray[np.float32]:
    """Return the sprite sheared to the right, most at its top."""
    height, width = shape.shape[:2]
    up = (height - np.arange(height)) / height
    shift = (lean * 60 * up**1.6).astype(int)[:, None]
    source = np.arange(width)[None] - shift
    leaned = shape[np.arange(height)[:, None], source.clip(0, width - 1)]
    return np.where((source >= 0)[..., None], leaned, 0)


def _bolt(
    rng: np.random.Generator, width: int, horizon: int
) -> tuple[canvas.Texture, canvas.Texture]:
    """Return a forked lightning: its glow and its core, as masks of the sky."""
    start = rng.uniform(0.25, 0.75) * width
    steps = 14
    x = start + np.cumsum(rng.normal(0, 9, steps))
    y = np.linspace(0, horizon, steps)

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        pen.line([(a * s, b * s) for a, b in zip(x, y, strict=True)], 255, round(2.2 * s))
        for fork in rng.integers(3, steps - 3, 3):
            side = rng.choice([-1, 1])
            fx = x[fork] + np.cumsum(np.r_[0, side * rng.uniform(4, 14, 4)])
            fy = y[fork] + np.cumsum(np.r_[0, rng.uniform(5, 14, 4)])
            pen.line([(a * s, b * s) for a, b in zip(fx, fy, strict=True)], 220, s)

    core = canvas.mask(horizon, width, draw)
    image = Image.fromarray((core * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(9))
    glow = np.asarray(image, np.float32)
    return glow / max(float(glow.max()), 1.0), core
