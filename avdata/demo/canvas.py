"""Brushes of the demo videos: textures, colour ramps, sprites, a ground in perspective.

Pictures are uint8 RGB [height, width, 3]; textures are float32 in [0, 1] and tile in both axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Picture = NDArray[np.uint8]
Texture = NDArray[np.float32]
Colour = tuple[float, ...]  # red, green, blue in [0, 255]


def fractal(
    rng: np.random.Generator,
    height: int,
    width: int,
    falloff: float,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Texture:
    """Return noise with spectrum frequency ** -falloff; `stretch` > 1 smears along y or x."""
    fy = np.fft.fftfreq(height)[:, None] * height * stretch[0]
    fx = np.fft.rfftfreq(width)[None] * width * stretch[1]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * radius**-falloff
    field = np.fft.irfft2(spectrum, (height, width))
    return np.asarray(np.clip(0.5 + field / (4.4 * field.std()), 0, 1), np.float32)


def ramp(*stops: tuple[float, Colour]) -> Picture:
    """Return a look-up table [256, 3] through colours at positions in [0, 1]."""
    positions = [position for position, _ in stops]
    colours = np.array([colour for _, colour in stops], float)
    at = np.linspace(0, 1, 256)
    channels = [np.interp(at, positions, colours[:, c]) for c in range(3)]
    return np.stack(channels, 1).clip(0, 255).astype(np.uint8)


def paint(values: Texture, table: Picture) -> Picture:
    """Return the colours of values in [0, 1]."""
    return table[(values * 255).clip(0, 255).astype(np.uint8)]


def vertical(height: int, width: int, *stops: tuple[float, Colour]) -> Picture:
    """Return a picture that runs through colours from top (0) to bottom (1)."""
    column = paint(np.linspace(0, 1, height, dtype=np.float32), ramp(*stops))
    return np.repeat(column[:, None], width, 1)


def shifted(rng: np.random.Generator, colour: Colour, spread: float = 10.0) -> Colour:
    """Return a colour moved a little, so that two videos of one kind differ."""
    common, own = rng.normal(0, spread * 0.8), rng.normal(0, spread * 0.4, 3)
    red, green, blue = (
        float(np.clip(c + common + o, 0, 255)) for c, o in zip(colour, own, strict=True)
    )
    return red, green, blue


def ink(colour: Colour, tone: float = 1.0) -> tuple[int, ...]:
    """Return a colour as Pillow takes it, `tone` times as bright."""
    return tuple(round(min(c * tone, 255)) for c in colour)


def blend(under: Picture, over: Picture | Colour, alpha: NDArray[np.floating] | float) -> Picture:
    """Return `over` laid on `under`; `alpha` is a number or [height, width] in [0, 1]."""
    weight = np.asarray(alpha, np.float32)
    weight = weight[..., None] if weight.ndim else weight
    base = under.astype(np.float32)
    return (base + (np.asarray(over, np.float32) - base) * weight).astype(np.uint8)


def skyline(
    rng: np.random.Generator, width: int, low: float, high: float, falloff: float = 1.6
) -> NDArray[np.float32]:
    """Return a rolling outline: one height per column, between `low` and `high`."""
    line = fractal(rng, 1, width, falloff)[0]
    line = (line - line.min()) / (line.max() - line.min())
    return np.asarray(low + (high - low) * line, np.float32)


def below(height: int, outline_y: NDArray[np.float32], softness_px: float = 1.0) -> Texture:
    """Return a mask [height, width] that is 1 below an outline."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(np.clip((rows - outline_y[None]) / softness_px + 0.5, 0, 1), np.float32)


def conifers(
    rng: np.random.Generator, height: int, width: int, base_y: float, size_px: float, count: int
) -> Texture:
    """Return a mask of fir trees standing on about `base_y`."""

    def draw(pen: ImageDraw.ImageDraw, s: int) -> None:
        for x in rng.uniform(0, width, count):
            tall = size_px * rng.uniform(0.6, 1.2)
            foot = base_y + rng.uniform(-2, 3)
            for tier in range(5):
                top = foot - tall * (1 - tier * 0.17)
                half = tall * (0.08 + 0.05 * tier)
                low = top + tall * 0.3
                pen.polygon(
                    [(x * s, top * s), ((x - half) * s, low * s), ((x + half) * s, low * s)], 255
                )
            pen.rectangle([(x - 1) * s, (foot - tall * 0.1) * s, (x + 1) * s, foot * s], 255)

    return mask(height, width, draw)


def mask(height: int, width: int, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Texture:
    """Return a smooth-edged mask drawn in white at `scale` times the size."""
    scale = 3
    image = Image.new("L", (width * scale, height * scale))
    draw(ImageDraw.Draw(image), scale)
    small = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def sprite(
    width: int, height: int, draw: Callable[[ImageDraw.ImageDraw, int], None]
) -> NDArray[np.float32]:
    """Return an RGBA sprite [height, width, 4] in [0, 255], drawn at four times its size."""
    scale = 4
    image = Image.new("RGBA", (width * scale, height * scale))
    draw(ImageDraw.Draw(image), scale)
    # Resizing premultiplied keeps dark fringes away from transparent edges.
    small = image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small.convert("RGBA"), np.float32)


def stamp(picture: Picture, shape: NDArray[np.float32], x: float, y: float) -> None:
    """Lay a sprite on a picture, its top left corner at (x, y); what sticks out is cut."""
    left, top = round(x), round(y)
    height, width = shape.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, picture.shape[1]), min(top + height, picture.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    part = shape[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:] / np.float32(255)
    under = picture[y0:y1, x0:x1]
    picture[y0:y1, x0:x1] = (under + (part[..., :3] - under) * alpha).astype(np.uint8)


def blurred(picture: Picture, radius_px: float) -> Picture:
    """Return the picture out of focus."""
    from PIL import ImageFilter

    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius_px)))


class Plane:
    """A tiled texture seen in perspective, from the near bottom row up to the horizon."""

    LEVELS = 5

    def __init__(self, tile: Picture, rows: int, width: int, depth: float = 1.0) -> None:
        """`tile` is square, its side a power of two; `depth` stretches it away from the viewer."""
        self._side = tile.shape[0]
        self._tiles = np.stack([tile, *(_softened(tile, level) for level in range(1, self.LEVELS))])
        nearness = (np.arange(rows) + 1.5) / rows
        distance = 1 / nearness
        self._u = ((np.arange(width) - width / 2) * distance[:, None]).astype(np.int32)
        self._v = (depth * rows * distance).astype(np.float32)[:, None]
        coarse = np.log2(distance * np.sqrt(np.maximum(1, distance * depth)))
        self._level = coarse.round().clip(0, self.LEVELS - 1).astype(np.int32)[:, None]

    def seen(self, forward_px: float, sideways_px: float = 0.0) -> Picture:
        """Return the plane [rows, width, 3] after walking forward by tile pixels."""
        last = self._side - 1
        v = (last - (self._v + forward_px).astype(np.int32)) & last
        u = (self._u + round(sideways_px)) & last
        return np.asarray(self._tiles[self._level, v, u])


def _softened(tile: Picture, level: int) -> Picture:
    """Average over 2 ** level pixels each way; the tile wraps around."""
    total = tile.astype(np.float64)
    for axis in (0, 1):
        for step in range(level):
            total = (total + np.roll(total, 1 << step, axis)) / 2
    return total.astype(np.uint8)


def pebbles(rng: np.random.Generator, side: int, count: int, colours: Sequence[Colour]) -> Picture:
    """Return a tile of stones: Worley cells, each with its colour, light from the upper left."""
    from scipy.spatial import cKDTree

    centres = rng.uniform(0, side, (count, 2))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1) + 0.5
    distance, nearest = cKDTree(centres, boxsize=side).query(grid.reshape(-1, 2), k=2)
    edge = np.clip((distance[:, 1] - distance[:, 0]) / 3.0, 0, 1).reshape(side, side)
    owner = nearest[:, 0].reshape(side, side)
    away = (grid - centres[owner] + side / 2) % side - side / 2
    light = 1.0 - 0.035 * (away[..., 0] + 0.6 * away[..., 1])
    base = np.array(colours, float)[rng.integers(len(colours), size=count)]
    base *= rng.uniform(0.75, 1.2, (count, 1))
    shade = (0.35 + 0.65 * edge) * light
    return np.asarray((base[owner] * shade[..., None]).clip(0, 255), np.uint8)
