"""Rain: rings on a pond, or a downpour on a flooded track."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from avdata.demo import canvas
from avdata.demo.canvas import Picture
from avdata.demo.timeline import Timeline


class Pond:
    """Light rain: rings spread on a still pond before a misty shore."""

    RINGS_PER_S = 26
    LIFE_S = 1.3

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        shore = round(height * rng.uniform(0.3, 0.4))
        mist = canvas.shifted(rng, (186, 194, 190), 6)
        far = np.empty((height, width, 3), np.uint8)
        far[:] = np.array(mist, np.uint8)
        for depth, colour in enumerate(((160, 172, 166), (122, 140, 130), (84, 106, 92))):
            ridge = shore + 1 - canvas.skyline(rng, width, 2 + 2 * depth, 50 - 12 * depth, 1.3)
            trees = canvas.conifers(rng, height, width, shore, 46 - 8 * depth, 16 + 5 * depth)
            shape = np.maximum(canvas.below(height, ridge, 2), trees)
            far = canvas.blend(far, canvas.shifted(rng, colour, 5), shape)
        mirrored = far[np.maximum(shore - 1 - np.arange(height - shore) * 2 // 3, 0)]
        water = canvas.vertical(
            height - shore, width, (0, (150, 164, 162)), (1, canvas.shifted(rng, (74, 98, 100), 8))
        )
        calm = canvas.fractal(rng, height - shore, width, 1.2, (0.4, 2.2))
        water = canvas.blend(water, canvas.blurred(mirrored, 2.5), 0.5)
        far[shore:] = canvas.blend(water, (176, 190, 190), 0.35 * calm)
        self._still, self._shore = _with_lilies(rng, far, shore), shore
        count = round(self.RINGS_PER_S * timeline.duration_s)
        self._born = np.sort(rng.uniform(-1, timeline.duration_s, count))
        self._x = rng.uniform(0, width, count)
        self._near = rng.uniform(0.04, 1.0, count) ** 0.8
        self._streaks = Streaks(rng, width, height, 26, 0.16)

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        picture = self._still.copy()
        first, last = np.searchsorted(self._born, (t_s - self.LIFE_S, t_s))
        for drop in range(int(first), int(last)):
            self._ring(picture, drop, t_s - float(self._born[drop]))
        return self._streaks.over(picture, t_s)

    def _ring(self, picture: Picture, drop: int, age_s: float) -> None:
        """Two circles that widen and fade, flattened by perspective."""
        height, width = picture.shape[:2]
        near = float(self._near[drop])
        x, y = float(self._x[drop]), self._shore + near * (height - self._shore)
        radius = (5 + 46 * age_s) * (0.15 + 0.85 * near)
        flat = 0.28 + 0.12 * near
        x0, x1 = max(int(x - radius - 6), 0), min(int(x + radius + 7), width)
        y0, y1 = (
            max(int(y - radius * flat - 4), self._shore),
            min(int(y + radius * flat + 5), height),
        )
        if x0 >= x1 or y0 >= y1:
            return
        dx, dy = np.arange(x0, x1) - x, (np.arange(y0, y1) - y) / flat
        r = np.hypot(dx[None], dy[:, None])
        thick = 1.0 + 2.4 * near
        wave = np.exp(-(((r - radius) / thick) ** 2)) - 0.6 * np.exp(
            -(((r - radius + 2.2 * thick) / thick) ** 2)
        )
        wave += 0.7 * np.exp(-(((r - 0.55 * radius) / thick) ** 2))
        gain = 92 * (1 - age_s / self.LIFE_S) ** 1.3
        if age_s < 0.12:
            wave = wave + 1.4 * np.exp(-((r / (2.0 + 2 * near)) ** 2))
        part = picture[y0:y1, x0:x1].astype(np.float32) + (gain * wave)[..., None]
        picture[y0:y1, x0:x1] = part.clip(0, 255).astype(np.uint8)


def _with_lilies(rng: np.random.Generator, picture: Picture, shore: int) -> Picture:
    height, width = picture.shape[:2]
    for _ in range(int(rng.integers(5, 12))):
        near = rng.uniform(0.15, 1)
        size = 7 + 24 * near
        x, y = rng.uniform(0, width), shore + near * (height - shore)
        notch = rng.uniform(0, 360)

        def draw(
            pen: ImageDraw.ImageDraw,
            s: int,
            x: float = x,
            y: float = y,
            size: float = size,
            notch: float = notch,
        ) -> None:
            box = ((x - size) * s, (y - size * 0.36) * s, (x + size) * s, (y + size * 0.36) * s)
            pen.pieslice(box, notch, notch + 330, 255)

        picture = canvas.blend(
            picture, canvas.shifted(rng, (70, 104, 62), 8), canvas.mask(height, width, draw)
        )
    return picture


class Streaks:
    """Falling rain: tiled streaks in two layers that rush down."""

    def __init__(
        self, rng: np.random.Generator, width: int, height: int, count: int, strength: float
    ) -> None:
        self._layers = []
        slant = float(rng.uniform(-0.2, 0.2))
        for scale in (1.0, 0.6):
            lines = rng.uniform(0, 1, (round(count / scale), 3))

            def draw(
                pen: ImageDraw.ImageDraw,
                s: int,
                scale: float = scale,
                lines: NDArray[np.float64] = lines,
            ) -> None:
                for x, y, size in lines:
                    length = (16 + 22 * size) * scale
                    for wrap in (0, height):
                        left, top = x * width, y * height - wrap + length
                        ends = (left * s, top * s, (left + slant * length) * s, (top + length) * s)
                        pen.line(ends, 255, max(1, round(2.6 * scale)))

            layer = canvas.mask(height, width, draw) * np.float32(strength * 255)
            self._layers.append((layer.astype(np.uint8), 520 * scale, slant))

    def over(self, picture: Picture, t_s: float) -> Picture:
        """Return the picture with rain in front of it."""
        bright = picture.astype(np.uint16)
        for layer, speed, slant in self._layers:
            down = round(t_s * speed)
            bright += np.roll(layer, (down, round(down * slant)), (0, 1))[..., None]
        return np.minimum(bright, 255).astype(np.uint8)


class Downpour:
    """Heavy rain: dense streaks before dark woods, splashes all over a flooded track."""

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        self._ground = round(height * rng.uniform(0.48, 0.58))
        scene = canvas.vertical(
            height, width, (0, canvas.shifted(rng, (96, 102, 112), 6)), (1, (64, 68, 76))
        )
        for depth, colour in enumerate(((82, 88, 98), (62, 68, 78), (42, 48, 56))):
            trees = canvas.conifers(
                rng, height, width, self._ground + 4, 74 + 34 * depth, 16 - 2 * depth
            )
            scene = canvas.blend(scene, canvas.shifted(rng, colour, 5), trees)
        rows = height - self._ground
        mud = canvas.fractal(rng, rows, width, 1.3, (0.5, 2.0))
        wet = canvas.paint(
            mud, canvas.ramp((0.2, (48, 46, 46)), (0.55, (78, 78, 82)), (0.8, (126, 132, 142)))
        )
        mirror = canvas.blurred(scene[self._ground - 1 - np.arange(rows) % self._ground], 3)
        scene[self._ground :] = canvas.blend(wet, mirror, 0.4)
        rows_down = np.arange(height, dtype=np.float32)
        mist = np.exp(-(((rows_down - self._ground) / 26) ** 2))[:, None]
        self._still = canvas.blend(scene, (124, 130, 140), 0.6 * np.repeat(mist, width, 1))
        self._rng_seed = int(rng.integers(2**32))
        self._splashes = [_splash(size) for size in (5, 8, 12)]
        self._streaks = Streaks(rng, width, height, 330, 0.42)

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        picture = self._still.copy()
        height, width = picture.shape[:2]
        rng = np.random.default_rng((self._rng_seed, round(t_s * 1000)))
        for near, across in rng.uniform(0, 1, (54, 2)):
            shape = self._splashes[min(int(near * 3), 2)]
            y = self._ground + near * (height - self._ground)
            canvas.stamp(picture, shape, across * width - shape.shape[1] / 2, y - shape.shape[0])
        return self._streaks.over(picture, t_s)


def _splash(size: int) -> NDArray[np.float32]:
    """Return the little crown that a drop throws up."""

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        middle, base = size * s, size * 1.3 * s
        for lean in (-0.8, -0.35, 0.35, 0.8):
            tip = (middle + lean * size * s, base - (1.25 - abs(lean) * 0.5) * size * s)
            pen.line([(middle + lean * 0.4 * size * s, base), tip], (206, 214, 226, 150), s)
        pen.ellipse(
            [(0.2 * size * s, base - 0.2 * size * s), (1.8 * size * s, base + 0.3 * size * s)],
            None,
            (200, 208, 220, 140),
            s,
        )

    return canvas.sprite(2 * size, round(1.8 * size), draw)
