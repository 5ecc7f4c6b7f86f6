"""Birds in a sunlit grove."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from avdata.demo import canvas
from avdata.demo.canvas import Colour, Picture
from avdata.demo.timeline import Timeline

CHIRP_S = 0.13
PLUMAGE: tuple[tuple[Colour, Colour], ...] = (
    ((96, 76, 60), (216, 92, 42)),  # robin
    ((52, 104, 170), (240, 208, 70)),  # blue tit
    ((196, 40, 44), (122, 34, 36)),  # cardinal
    ((238, 196, 48), (250, 232, 140)),  # canary
    ((60, 62, 70), (226, 224, 216)),  # wagtail
)


class Grove:
    """Three birds on a branch, each opens its beak as it chirps; others fly past meanwhile."""

    def __init__(self, timeline: Timeline, width: int, height: int) -> None:
        rng = timeline.rng("picture")
        self._width = width
        self._leaves = _leaves(rng, height, width)
        branch_y = height * rng.uniform(0.58, 0.7)
        slope = rng.uniform(-0.12, 0.12)
        self._leaves = canvas.blend(
            self._leaves, (74, 54, 38), _branch(rng, height, width, branch_y, slope)
        )
        self._times = np.array([event.t_s for event in timeline.events])
        self._who = np.array([event.who for event in timeline.events])
        colours = rng.permutation(len(PLUMAGE))[:3]
        places = np.array([0.2, 0.5, 0.8]) + rng.uniform(-0.07, 0.07, 3)
        self._birds = []
        for bird, (colour, place) in enumerate(zip(colours, places, strict=True)):
            facing = 1 if rng.random() < 0.5 else -1
            poses = [_perched(*PLUMAGE[int(colour)], facing, beak) for beak in (0.0, 1.0)]
            x = place * width
            y = branch_y + slope * (x - width / 2)
            self._birds.append((bird, poses, x, y))
        self._flights = []
        for start_s, end_s in timeline.sounding:
            at = start_s - 0.5
            while at < end_s - 1.5:
                colour = int(rng.integers(len(PLUMAGE)))
                facing = 1 if rng.random() < 0.5 else -1
                self._flights.append(
                    (at, facing, rng.uniform(0.12, 0.42) * height, rng.uniform(120, 180), colour)
                )
                at += rng.uniform(1.2, 2.2)
        self._wings = {
            (colour, facing): [_flying(*PLUMAGE[colour], facing, flap) for flap in (-1, 0, 1, 0)]
            for colour in range(len(PLUMAGE))
            for facing in (-1, 1)
        }

    def frame(self, t_s: float) -> Picture:
        """Return the picture at a time."""
        picture = self._leaves.copy()
        for start_s, facing, y, speed, colour in self._flights:
            way = (t_s - start_s) * speed
            if 0 <= way <= self._width + 60:
                x = way - 50 if facing > 0 else self._width - way
                wings = self._wings[colour, facing][int(t_s * 12) % 4]
                canvas.stamp(picture, wings, x, y + 8 * np.sin(2.5 * (t_s - start_s)))
        for bird, poses, x, y in self._birds:
            since = t_s - self._times[self._who == bird]
            singing = bool(np.any((since >= -0.02) & (since < CHIRP_S)))
            hop = -4 if singing else 1.2 * np.sin(1.7 * t_s + bird)
            shape = poses[int(singing)]
            canvas.stamp(picture, shape, x - shape.shape[1] / 2, y - 55 + hop)
        return picture


def _leaves(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return a canopy out of focus, with spots of sun, and sharper leaves in front."""
    light = canvas.shifted(rng, (128, 184, 66), 10)
    soft = canvas.fractal(rng, height, width, 1.5)
    picture = canvas.paint(
        soft, canvas.ramp((0.2, (18, 58, 28)), (0.5, (46, 112, 44)), (0.8, light))
    )
    for _ in range(26):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(4, 15)

        def draw(
            pen: ImageDraw.ImageDraw, s: int, x: float = x, y: float = y, r: float = r
        ) -> None:
            pen.ellipse([(x - r) * s, (y - r) * s, (x + r) * s, (y + r) * s], 255)

        spot = canvas.mask(height, width, draw)
        picture = canvas.blend(picture, (214, 236, 130), rng.uniform(0.08, 0.3) * spot)
    picture = canvas.blurred(picture, 1.5)
    for tone in (0.55, 0.8, 1.05, 1.25):
        middle_x, middle_y = rng.uniform(0, width, 5), rng.choice([0.0, height], 5)

        def draw_leaves(
            pen: ImageDraw.ImageDraw,
            s: int,
            xs: NDArray[np.float64] = middle_x,
            ys: NDArray[np.float64] = middle_y,
        ) -> None:
            for _ in range(90):
                spray = int(rng.integers(len(xs)))
                x, y = rng.normal(xs[spray], 34), rng.normal(ys[spray], 17)
                a, size = rng.uniform(0, 6.28), rng.uniform(5, 10)
                along = np.array([np.cos(a), np.sin(a)]) * size
                across = np.array([-along[1], along[0]]) * 0.42
                middle = np.array([x, y])
                corners = (middle - along, middle + across, middle + along, middle - across)
                pen.polygon([(p[0] * s, p[1] * s) for p in corners], 255)

        colour = canvas.ink((60, 132, 48), tone)
        picture = canvas.blend(picture, colour, canvas.mask(height, width, draw_leaves))
    return picture


def _branch(
    rng: np.random.Generator, height: int, width: int, y: float, slope: float
) -> canvas.Texture:
    line = y + slope * (np.arange(width) - width / 2) + canvas.skyline(rng, width, -2, 2)
    rows = np.arange(height)[:, None]
    thick = canvas.skyline(rng, width, 4, 7)
    return np.asarray(np.clip(thick - np.abs(rows - line[None] - 4), 0, 1), np.float32)


def _perched(back: Colour, breast: Colour, facing: int, beak: float) -> NDArray[np.float32]:
    """Return a bird on its branch, 64 x 60 px, beak shut (0) or open (1)."""

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        dark = canvas.ink(back, 0.6)
        main, front = canvas.ink(back), canvas.ink(breast)

        def points(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
            return [((32 + facing * x) * s, y * s) for x, y in pairs]

        def oval(x0: float, y0: float, x1: float, y1: float, fill: tuple[int, ...]) -> None:
            a, b = sorted((32 + facing * x0, 32 + facing * x1))
            pen.ellipse([a * s, y0 * s, b * s, y1 * s], fill)

        raise_head = -2 * beak
        pen.polygon(points((-10, 36), (-30, 50 - 5 * beak), (-26, 56 - 5 * beak), (-6, 46)), dark)
        for leg in (-2, 4):
            pen.line(points((leg, 48), (leg + 1, 57)), (62, 44, 34), 2 * s)
        oval(-15, 22, 14, 51, main)
        oval(-6, 26, 15, 50, front)
        oval(-1, 8 + raise_head, 21, 31 + raise_head, main)
        oval(8, 18 + raise_head, 19, 31 + raise_head, front)
        pen.polygon(points((-14, 28), (4, 30), (-4, 44), (-18, 46)), dark)
        oval(11, 14 + raise_head, 16, 19 + raise_head, (14, 14, 18))
        oval(13.5, 14.6 + raise_head, 15, 16.2 + raise_head, (250, 250, 250))
        y = 19 + raise_head
        horn = (224, 160, 48)
        pen.polygon(points((19, y - 2), (29, y - 6 * beak), (19, y + 1.5)), horn)
        pen.polygon(points((19, y + 1), (27, y + 1.5 + 6 * beak), (18, y + 4)), (190, 124, 34))

    return canvas.sprite(64, 62, draw)


def _flying(back: Colour, breast: Colour, facing: int, flap: int) -> NDArray[np.float32]:
    """Return a bird on the wing, 50 x 40 px; `flap` is -1 (wings down) to 1 (up)."""

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        main, front = canvas.ink(back), canvas.ink(breast)
        dark = canvas.ink(back, 0.65)

        def points(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
            return [((25 + facing * x) * s, y * s) for x, y in pairs]

        tip = 20 - 17 * flap
        pen.polygon(points((-10, 19), (-23, 16), (-22, 24)), dark)
        pen.polygon(points((-4, 19), (6, 19), (-7, tip + 2)), dark)
        a, b = sorted((25 - facing * 13, 25 + facing * 13))
        pen.ellipse([a * s, 15 * s, b * s, 26 * s], main)
        pen.polygon(points((-4, 24), (10, 23), (4, 26)), front)
        a, b = sorted((25 + facing * 7, 25 + facing * 18))
        pen.ellipse([a * s, 13 * s, b * s, 23 * s], main)
        pen.polygon(points((17, 16), (23, 18.5), (17, 20)), (224, 160, 48))
        pen.polygon(points((-6, 20), (7, 20), (-2, tip)), main)
        eye = points((13.5, 17))[0]
        pen.ellipse([eye[0] - s, eye[1] - s, eye[0] + s, eye[1] + s], (12, 12, 12))

    return canvas.sprite(50, 40, draw)
