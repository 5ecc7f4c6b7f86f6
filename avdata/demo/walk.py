"""Steps in snow and on gravel: the walker's own boots, seen while looking down the path."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from avdata.demo import canvas
from avdata.demo.canvas import Picture
from avdata.demo.timeline import Timeline

STRIDE_PX = 46  # ground covered by one step, in pixels of the lowest row
STEP_S = 0.55


class Walk:
    """A path ahead, hills or firs at its end, two boots that land with each step."""

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        self._snow = timeline.kind == "snow_steps"
        self._times = np.array([event.t_s for event in timeline.events])
        self._feet = np.array([event.who for event in timeline.events])
        self._width, self._height = width, height
        self._horizon = round(height * rng.uniform(0.26, 0.34))
        rows = height - self._horizon
        tile = _snow_tile(rng) if self._snow else _gravel_tile(rng)
        self._plane = canvas.Plane(tile, rows, width, depth=0.55)
        self._grass = canvas.Plane(_grass_tile(rng), rows, width, depth=0.55)
        self._verge = _verge(rng, rows, width) & (not self._snow)
        view = _snow_view if self._snow else _gravel_view
        self._distance = view(rng, height, width, self._horizon)
        haze = np.clip(1.15 - np.arange(rows) / (rows * 0.4), 0, 1).astype(np.float32)
        self._haze = np.repeat(0.75 * haze[:, None], width, 1)
        self._haze_colour = canvas.shifted(
            rng, (222, 230, 242) if self._snow else (172, 160, 132), 5
        )
        leather = [(104, 62, 34), (70, 74, 84), (140, 88, 42), (60, 70, 48)][rng.integers(4)]
        trousers = [(52, 66, 104), (84, 78, 62), (60, 60, 66)][rng.integers(3)]
        lace = [(214, 60, 48), (230, 190, 70), (235, 235, 235)][rng.integers(3)]
        self._boots = tuple(_boot(leather, trousers, lace, side) for side in (-1, 1))
        self._spray = _spray((250, 252, 255) if self._snow else (188, 180, 166), rng)
        self._shadow = _shadow((120, 140, 180) if self._snow else (52, 48, 44))

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        walked = _walked(self._times, t_s)
        picture = self._distance.copy()
        ground = self._plane.seen(walked * STRIDE_PX)
        ground[self._verge] = self._grass.seen(walked * STRIDE_PX)[self._verge]
        picture[self._horizon :] = canvas.blend(ground, self._haze_colour, self._haze)
        for foot in (0, 1):
            self._draw_foot(picture, t_s, foot)
        return picture

    def _draw_foot(self, picture: Picture, t_s: float, foot: int) -> None:
        mine = self._times[self._feet == foot]
        landed = int(np.searchsorted(mine, t_s, "right")) - 1
        since = t_s - mine[landed] if landed >= 0 else 9.0
        ahead, lift = _gait(since, mine[landed + 1] - t_s if landed + 1 < len(mine) else 9.0)
        x = self._width / 2 + (-62 if foot == 0 else 10)
        y = self._height * 0.66 - ahead * STRIDE_PX - 10 * lift
        canvas.stamp(picture, self._shadow, x - 4 + 6 * lift, y + 6 + 16 * lift)
        if since < 0.3:
            burst = self._spray[min(int(since / 0.3 * len(self._spray)), len(self._spray) - 1)]
            canvas.stamp(picture, burst, x + 26 - burst.shape[1] / 2, y + 34 - burst.shape[0] / 2)
        canvas.stamp(picture, self._boots[foot], x, y)


def _walked(times: NDArray[np.float64], t_s: float) -> float:
    """Return the distance in strides: each footfall pulls the walker one stride on."""
    before = int(np.searchsorted(times, t_s, "right"))
    if before == 0:
        return 0.0
    part = min((t_s - float(times[before - 1])) / STEP_S, 1.0)
    return before - 1 + part * part * (3 - 2 * part)


def _gait(since_s: float, until_s: float) -> tuple[float, float]:
    """Return how far ahead a foot is (strides) and how high (0 to 1), from its footfalls."""
    swing_s = 0.42
    if until_s < swing_s:
        part = 1 - until_s / swing_s
        smooth = part * part * (3 - 2 * part)
        return -0.5 + 1.15 * smooth, float(np.sin(np.pi * part))
    return max(0.65 - 1.15 * min(since_s / (1.2 * STEP_S), 1.0), -0.5), 0.0


def _boot(
    leather: canvas.Colour, trousers: canvas.Colour, lace: canvas.Colour, side: int
) -> NDArray[np.float32]:
    dark = canvas.ink(leather, 0.55)
    light = canvas.ink(leather, 1.5)
    main = canvas.ink(leather)
    cloth = canvas.ink(trousers)
    fold, cord = canvas.ink(trousers, 0.7), canvas.ink(lace)

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        toe = 3 * side

        def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
            return (x0 * s, y0 * s, x1 * s, y1 * s)

        pen.rounded_rectangle(box(6 + toe, 1, 46 + toe, 70), 20 * s, dark)
        pen.rounded_rectangle(box(8 + toe, 3, 44 + toe, 66), 18 * s, main)
        pen.ellipse(box(13 + toe, 6, 32 + toe, 24), light)
        pen.ellipse(box(13 + toe, 10, 36 + toe, 30), main)
        pen.polygon([(p * s, q * s) for p, q in ((18, 26), (34, 26), (38, 74), (14, 74))], dark)
        for row in range(5):
            y = (30 + 9 * row) * s
            pen.line([(17 * s, y), (35 * s, y + 5 * s)], cord, 2 * s)
            pen.line([(35 * s, y), (17 * s, y + 5 * s)], cord, 2 * s)
        pen.rounded_rectangle(box(3, 62, 49, 170), 10 * s, cloth)
        pen.line([(14 * s, 70 * s), (17 * s, 168 * s)], fold, 3 * s)
        pen.line([(38 * s, 76 * s), (34 * s, 168 * s)], fold, 2 * s)
        pen.arc(box(3, 56, 49, 80), 0, 180, fold, 2 * s)

    return canvas.sprite(56, 172, draw)


def _shadow(colour: canvas.Colour) -> NDArray[np.float32]:
    y, x = np.mgrid[-1:1:90j, -1:1:66j]
    alpha = 150 * np.clip(1.2 - np.hypot(x, y) * 1.2, 0, 1)
    return np.dstack([*(np.full_like(alpha, c) for c in colour), alpha]).astype(np.float32)


def _spray(colour: canvas.Colour, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return the stages of the ground flying up around a boot that lands."""
    angle, speed = rng.uniform(0, 2 * np.pi, 46), rng.uniform(0.5, 1, 46)
    size = rng.uniform(1, 3.2, 46)
    stages = []
    for stage in range(4):
        reach = 22 + 9 * stage

        def draw(pen: ImageDraw.ImageDraw, s: int, reach: int = reach, stage: int = stage) -> None:
            fill = (*(int(c) for c in colour), 235 - 50 * stage)
            for a, v, r in zip(angle, speed, size, strict=True):
                x, y = 60 + reach * v * np.cos(a), 45 + 0.75 * reach * v * np.sin(a)
                pen.ellipse([(x - r) * s, (y - r) * s, (x + r) * s, (y + r) * s], fill)

        stages.append(canvas.sprite(120, 90, draw))
    return stages


def _snow_tile(rng: np.random.Generator) -> Picture:
    side = 512
    drift = (
        canvas.fractal(rng, side, side, 1.9) * 0.75 + canvas.fractal(rng, side, side, 0.7) * 0.25
    )
    shade = canvas.shifted(rng, (176, 196, 230), 6)
    tile = canvas.paint(
        drift, canvas.ramp((0, shade), (0.5, (228, 236, 247)), (1, (255, 255, 255)))
    )
    prints = np.zeros((side, side), np.float32)
    for number in range(8):
        side_px = -24 if number % 2 else 24
        v, u = number * 64 + 20, side_px + 5 * np.sin(number)
        y, x = np.mgrid[0:side, 0:side]
        x = (x - u + side / 2) % side - side / 2
        prints += np.exp(-(((y - v) / 19) ** 4) - (x / 9) ** 4)
    return canvas.blend(tile, (140, 162, 206), 0.62 * np.clip(prints, 0, 1).astype(np.float32))


def _gravel_tile(rng: np.random.Generator) -> Picture:
    greys = [
        canvas.shifted(rng, c, 6)
        for c in ((150, 147, 144), (178, 174, 168), (126, 122, 120), (164, 152, 138))
    ]
    tile = canvas.pebbles(rng, 512, 5200, greys)
    rough = canvas.fractal(rng, 512, 512, 1.4)
    return canvas.blend(tile, (90, 82, 74), 0.4 * (1 - rough))


def _grass_tile(rng: np.random.Generator) -> Picture:
    blades = 0.5 * canvas.fractal(rng, 512, 512, 0.7, (2.2, 0.5)) + 0.5 * canvas.fractal(
        rng, 512, 512, 1.6
    )
    light = canvas.shifted(rng, (186, 164, 92), 10)
    return canvas.paint(
        blades, canvas.ramp((0.25, (74, 70, 34)), (0.5, (138, 122, 62)), (0.75, light))
    )


def _verge(rng: np.random.Generator, rows: int, width: int) -> NDArray[np.bool_]:
    """Return where grass grows: outside a path that narrows towards the horizon."""
    half = width * (0.035 + rng.uniform(0.36, 0.44) * (np.arange(rows) / rows))[:, None]
    ragged = 1 + 0.22 * (canvas.fractal(rng, rows, width, 1.0) - 0.5)
    return np.asarray(np.abs(np.arange(width) - width / 2)[None] > half * ragged)


def _snow_view(rng: np.random.Generator, height: int, width: int, horizon: int) -> Picture:
    sky = canvas.vertical(
        height,
        width,
        (0, canvas.shifted(rng, (142, 180, 222), 12)),
        (horizon / height, (232, 238, 246)),
        (1, (240, 244, 250)),
    )
    hill = canvas.below(height, horizon - canvas.skyline(rng, width, 8, 44), 1.5)
    sky = canvas.blend(sky, canvas.shifted(rng, (198, 212, 232), 6), hill)
    trees = canvas.conifers(
        rng, height, width, horizon + 1, rng.uniform(34, 56), int(rng.integers(9, 18))
    )
    sky = canvas.blend(sky, canvas.shifted(rng, (58, 84, 92), 8), trees)
    caps = np.clip(trees - np.roll(np.roll(trees, 4, 0), 2, 1), 0, 1)
    return canvas.blend(sky, (246, 250, 255), caps)


def _gravel_view(rng: np.random.Generator, height: int, width: int, horizon: int) -> Picture:
    sky = canvas.vertical(
        height,
        width,
        (0, canvas.shifted(rng, (196, 186, 168), 8)),
        (horizon / height, (232, 214, 178)),
        (1, (232, 214, 178)),
    )
    for near, colour in enumerate(((176, 150, 116), (142, 116, 76), (108, 92, 52))):
        line = horizon + 3 - canvas.skyline(rng, width, 2, 46 - 13 * near, 1.5)
        body = canvas.blend(
            np.full_like(sky, canvas.shifted(rng, colour, 8)),
            (70, 60, 36),
            0.5 * canvas.fractal(rng, height, width, 1.0),
        )
        sky = canvas.blend(sky, body, canvas.below(height, line, 1.5))
    return sky
