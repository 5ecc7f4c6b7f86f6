"""What a training program sees of a clip: a crop of its picture, a stretch of its sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from avdata import audio, frames

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How to look at a clip. The default is the whole of it, without chance.

    only: the other is neither read nor decoded, and what the view says of it does not count.
    """

    only: Literal["image", "audio"] | None = None  # None: picture and sound
    image_size_px: int | None = None  # side of the square picture; None: as it is stored
    load_size_px: int | None = None  # squash to this side, then crop image_size_px of it at random
    crop_area: tuple[float, float] | None = None  # random crop of this share of the area
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the random crop
    flip: bool = False  # mirror every second picture
    frame: Literal["best", "random", "even"] = "best"  # the best match, any stored one, spread out
    n_frames: int | None = None  # None: one picture per clip; else so many, in the order of time
    audio_s: float | None = None  # length of the sound; None: the split's longest clip
    audio_start: Literal["first", "random"] = "first"  # where a shorter stretch begins
    short_audio: Literal["pad", "tile"] = "pad"  # fill up with zeros, or start over

    def __post_init__(self) -> None:
        if self.crop_area and not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area must rise within (0, 1], got {self.crop_area}")
        if self.crop_area and self.image_size_px is None:
            raise ValueError("crop_area needs image_size_px: crops differ in size")
        if self.load_size_px is not None and (
            self.image_size_px is None or self.crop_area or self.load_size_px < self.image_size_px
        ):
            raise ValueError(
                f"load_size_px, got {self.load_size_px}, must be at least image_size_px, which it "
                f"needs, got {self.image_size_px}, and goes without crop_area"
            )
        if self.image_size_px is not None and self.image_size_px < 1:
            raise ValueError(f"image_size_px must be at least 1, got {self.image_size_px}")
        if self.frame == "even" and self.n_frames is None:
            raise ValueError("frame even needs n_frames: how many to spread over the clip")
        if self.n_frames is not None and (self.n_frames < 1 or self.frame == "best"):
            raise ValueError(
                f"n_frames must be at least 1, of frame random or even; got {self.n_frames} of "
                f"frame {self.frame}"
            )
        if self.audio_s is not None and self.audio_s <= 0:
            raise ValueError(f"audio_s must be above 0, got {self.audio_s}")

    @property
    def sees(self) -> bool:
        """Tell whether pictures are looked at."""
        return self.only != "audio"

    @property
    def hears(self) -> bool:
        """Tell whether sound is listened to."""
        return self.only != "image"


def choose_frames(times_s: Sequence[float], view: View, rng: np.random.Generator) -> list[int]:
    """Return which of a clip's stored frames to look at, in the order of time.

    random: without repeating one while there are others; even: the middles of n equal parts.
    """
    wanted, n = view.n_frames or 1, len(times_s)
    order = np.argsort(times_s, kind="stable")
    if view.frame == "even":
        chosen = (np.arange(wanted) + 0.5) / wanted * n
        return [int(order[int(place)]) for place in chosen]
    if wanted == 1:
        return [int(rng.integers(n))]
    ranks = np.arange(wanted) % n
    ranks[wanted // n * n :] = rng.choice(n, wanted % n, replace=False)
    return [int(order[rank]) for rank in np.sort(ranks)]


def view_image(data: bytes, view: View, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture of a JPEG, uint8 [height, width, 3]; raises ClipError if unreadable."""
    image = frames.decode_jpeg(data)
    if view.load_size_px is not None and view.image_size_px is not None:
        side, spare = view.image_size_px, view.load_size_px - view.image_size_px
        image = frames.squash(image, view.load_size_px, view.load_size_px)
        top, left = int(rng.integers(spare + 1)), int(rng.integers(spare + 1))
        image = image[top : top + side, left : left + side]
    elif view.image_size_px is not None:
        height, width = image.shape[:2]
        box = random_box(width, height, view, rng) if view.crop_area else (0, 0, width, height)
        left, top, right, bottom = box
        side = view.image_size_px
        image = frames.squash(image[top:bottom, left:right], side, side)
    if view.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    return image


def random_box(
    width: int, height: int, view: View, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a random resized crop, in pixels.

    Area uniform in `crop_area`, logarithm of the aspect uniform in `crop_aspect`
    (Szegedy et al., Going deeper with convolutions, 2015); the whole picture if none fits.
    """
    assert view.crop_area is not None
    low, high = math.log(view.crop_aspect[0]), math.log(view.crop_aspect[1])
    for _ in range(10):
        area, aspect = rng.uniform(*view.crop_area), math.exp(rng.uniform(low, high))
        crop_width = round(math.sqrt(width * height * area * aspect))
        crop_height = round(math.sqrt(width * height * area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def view_audio(
    data: bytes, n_samples: int, view: View, rng: np.random.Generator
) -> tuple[NDArray[np.int16], int]:
    """Return `n_samples` int16 of the sound and how many of them are not padding.

    Raises ClipError if it is unreadable.
    """
    samples, _ = audio.decode(data)
    spare = samples.size - n_samples
    if spare >= 0:
        start = int(rng.integers(spare + 1)) if view.audio_start == "random" else 0
        return samples[start : start + n_samples], n_samples
    if view.short_audio == "tile" and samples.size:
        return np.resize(samples, n_samples), n_samples
    return np.pad(samples, (0, -spare)), samples.size
