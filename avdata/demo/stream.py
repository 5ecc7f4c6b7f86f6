"""A stream in the woods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from avdata.demo import canvas
from avdata.demo.canvas import Picture
from avdata.demo.timeline import Timeline

FLOW_PX_S = 150.0


class Stream:
    """Water runs towards the viewer between mossy banks, around stones."""

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        top = round(height * rng.uniform(0.24, 0.32))
        rows = height - top
        near = (np.arange(rows, dtype=np.float32) / rows)[:, None]
        sway = rng.uniform(20, 45) * np.sin(rng.uniform(2.5, 4) * (1 - near) + rng.uniform(0, 6.28))
        middle = width / 2 + sway * (1.1 - near)
        half = width * (0.08 + rng.uniform(0.27, 0.33) * near)
        x = np.arange(width, dtype=np.float32)[None]
        ragged = 16 * near * (canvas.fractal(rng, rows, width, 1.2) - 0.5)
        inside = half - np.abs(x - middle) + ragged
        self._water = np.clip(inside / 2.5, 0, 1).astype(np.float32)
        self._foam = 0.14 * np.clip(1 - np.abs(inside - 3) / 5, 0, 1)
        self._u = ((x - middle) / half * 120).astype(np.int32)
        self._v = 130 / (near + 0.12)
        self._broad = canvas.fractal(rng, 512, 512, 1.25, (1.6, 0.7))
        self._fine = canvas.fractal(rng, 512, 512, 1.3, (2.2, 0.6))
        deep = canvas.shifted(rng, (22, 70, 76), 6)
        self._colours = canvas.ramp(
            (0.15, deep), (0.48, (62, 134, 136)), (0.62, (146, 196, 192)), (0.78, (242, 250, 248))
        )
        scene = _woods(rng, height, width, top)
        scene[top:] = _bank(rng, rows, width, inside)
        self._scene, self._top = scene, top
        self._stones = []
        for depth in np.sort(rng.uniform(0.15, 0.92, int(rng.integers(6, 10)))):
            row = int(depth * rows)
            size = 8 + 34 * depth * rng.uniform(0.7, 1.2)
            where = float(middle[row, 0] + half[row, 0] * rng.uniform(-0.62, 0.62))
            stone, wash = _stone(rng, size)
            self._stones.append((stone, wash, where, top + row))

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        picture = self._scene.copy()
        run = self._v + FLOW_PX_S * t_s
        broad = self._broad[run.astype(np.int32) & 511, (self._u + 200) & 511]
        fine = self._fine[(1.7 * run).astype(np.int32) & 511, (2 * self._u + 90) & 511]
        water = canvas.paint(0.55 * broad + 0.45 * fine + self._foam, self._colours)
        picture[self._top :] = canvas.blend(picture[self._top :], water, self._water)
        for number, (stone, wash, x, y) in enumerate(self._stones):
            lap = 1.6 * np.sin(7 * t_s + 2.1 * number)
            height, width = stone.shape[:2]
            canvas.stamp(picture, wash, x - wash.shape[1] / 2, y - wash.shape[0] * 0.45 + lap)
            canvas.stamp(picture, stone, x - width / 2, y - height * 0.85)
        return picture


def _woods(rng: np.random.Generator, height: int, width: int, foot: int) -> Picture:
    """Return sunlit leaves behind dark trunks."""
    light = canvas.shifted(rng, (150, 172, 84), 10)
    leaves = 0.6 * canvas.fractal(rng, height, width, 1.3) + 0.4 * canvas.fractal(
        rng, height, width, 0.6
    )
    table = canvas.ramp((0.3, (34, 50, 26)), (0.5, (76, 106, 46)), (0.7, light))
    scene = canvas.blurred(canvas.paint(leaves, table), 1.6)
    for far, colour in ((2, (86, 84, 58)), (1, (58, 48, 34))):

        def draw(pen: ImageDraw.ImageDraw, s: int, far: int = far) -> None:
            for x in rng.uniform(0, width, 4 + 2 * far):
                thick, lean = rng.uniform(4, 8) / far, rng.uniform(-8, 8)
                foot_y = foot + rng.uniform(0, 6)
                left, right = x - thick, x + thick
                pen.polygon(
                    [
                        ((left + lean) * s, 0),
                        ((right + lean) * s, 0),
                        (right * s, (foot_y - 6) * s),
                        ((right + 3) * s, foot_y * s),
                        ((left - 3) * s, foot_y * s),
                        (left * s, (foot_y - 6) * s),
                    ],
                    255,
                )

        scene = canvas.blend(scene, colour, canvas.mask(height, width, draw))
    return scene


def _bank(rng: np.random.Generator, rows: int, width: int, inside: NDArray[np.floating]) -> Picture:
    """Return moss and fern, dark and wet where the water laps."""
    light = canvas.shifted(rng, (134, 158, 64), 8)
    soft = 0.65 * canvas.fractal(rng, rows, width, 1.5, (0.7, 1.5)) + 0.35 * canvas.fractal(
        rng, rows, width, 0.6, (1.4, 0.7)
    )
    table = canvas.ramp((0.2, (44, 56, 26)), (0.5, (88, 114, 44)), (0.8, light))
    moss = canvas.paint(soft, table)
    shore = np.clip(1 + inside / 14, 0, 1).astype(np.float32)
    return canvas.blend(moss, (56, 48, 36), 0.8 * shore)


def _stone(
    rng: np.random.Generator, size_px: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a stone with moss on its back, and the white water at its foot."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    reach = rng.uniform(0.82, 1.0, 14)
    grey = canvas.shifted(rng, (112, 110, 104), 12)
    width, height = round(2.2 * size_px), round(1.4 * size_px)

    def outline(s: float, shrink: float, up: float) -> list[tuple[float, float]]:
        return [
            (
                (width / 2 + shrink * r * size_px * np.cos(a)) * s,
                (height * 0.55 - up + shrink * r * 0.58 * size_px * np.sin(a)) * s,
            )
            for a, r in zip(angles, reach, strict=True)
        ]

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        tones = ((1.0, 0.0, 0.5), (0.92, 0.05, 0.8), (0.74, 0.13, 1.08), (0.5, 0.2, 1.3))
        for shrink, up, tone in tones:
            pen.polygon(outline(s, shrink, up * size_px), canvas.ink(grey, tone))
        pen.polygon(outline(s, 0.36, 0.26 * size_px), (112, 134, 58))

    def draw_wash(pen: ImageDraw.ImageDraw, s: int) -> None:
        for _ in range(26):
            a = rng.uniform(0, 2 * np.pi)
            x = width * 0.65 + 0.95 * size_px * np.cos(a)
            y = height * 0.5 + 0.42 * size_px * np.sin(a)
            r = rng.uniform(0.1, 0.22) * size_px
            pen.ellipse(
                [(x - r) * s, (y - r / 2) * s, (x + r) * s, (y + r / 2) * s], (244, 250, 250, 150)
            )

    return canvas.sprite(width, height, draw), canvas.sprite(round(1.3 * width), height, draw_wash)
