"""Random views of pictures for learning without labels, as batched operations on any device.

Pictures are float32 [B, 3, H, W] in [0, 1], RGB. Chance comes from a generator on their device and
is drawn per picture; that of the order of the colour changes per batch.

The set and its strengths are SimCLR's (Chen et al. 2020, appendix A), which SwAV shares:
random resized crop, mirror, colour jitter, grey, blur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.strict import setting
from stages.engine.settings import bounded

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
ATTEMPTS = 10  # at a crop that fits into the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """How strongly the colours of a view are changed."""

    jitter: float = setting(
        1.0, "Strength s: brightness, contrast and saturation by up to 0.8 s, hue by up to 0.2 s."
    )
    jitter_chance: float = setting(0.8, "Share of views whose colours are changed.")
    grey_chance: float = setting(0.2, "Share of views without colour.")
    blur_chance: float = setting(0.5, "Share of views that are blurred.")
    blur_max_px: float = setting(
        2.0, "Largest standard deviation of the blur; the smallest is a twentieth of it."
    )

    def __post_init__(self) -> None:
        for name in ("jitter_chance", "grey_chance", "blur_chance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.jitter <= 1.25:
            raise ValueError(f"jitter must lie in [0, 1.25], got {self.jitter}")
        bounded(self, "blur_max_px", above=0)


def random_boxes(
    n: int,
    area: tuple[float, float],
    generator: torch.Generator,
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Return left, top, width, height [n, 4] of random crops, as shares of a square picture.

    Area uniform in `area`, logarithm of the aspect uniform in `aspect` (Szegedy et al. 2015); the
    whole picture where no attempt fits.
    """
    shape = (n, ATTEMPTS)
    shares = _uniform(shape, *area, generator)
    aspects = _uniform(shape, math.log(aspect[0]), math.log(aspect[1]), generator).exp()
    width, height = (shares * aspects).sqrt(), (shares / aspects).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)  # the first that fits, 0 if none does
    found = fits.gather(1, first)
    width = torch.where(found, width.gather(1, first), 1.0)
    height = torch.where(found, height.gather(1, first), 1.0)
    place = _uniform((n, 2), 0.0, 1.0, generator)
    return torch.cat([place[:, :1] * (1 - width), place[:, 1:] * (1 - height), width, height], 1)


def crop(pictures: Tensor, boxes: Tensor, size_px: int, mirrored: Tensor | None = None) -> Tensor:
    """Return the boxes [B, 4] (left, top, width, height, as shares) at [B, 3, size_px, size_px].

    Bilinear, pixels seen as squares. mirrored: bool [B], which of them are flipped left to right.
    """
    left, top, width, height = boxes.unbind(1)
    zero = torch.zeros_like(width)
    across = width if mirrored is None else torch.where(mirrored, -width, width)
    theta = torch.stack(
        [
            torch.stack([across, zero, 2 * left + width - 1], 1),
            torch.stack([zero, height, 2 * top + height - 1], 1),
        ],
        1,
    )  # [B, 2, 3], in coordinates from -1 to 1
    shape = (len(pictures), pictures.shape[1], size_px, size_px)
    grid = F.affine_grid(theta, list(shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def random_crop(
    pictures: Tensor, size_px: int, area: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Return a random resized crop of each picture, every second one mirrored."""
    boxes = random_boxes(len(pictures), area, generator)
    return crop(pictures, boxes, size_px, _chosen(len(pictures), 0.5, generator))


def distort(pictures: Tensor, how: Distortion, generator: torch.Generator) -> Tensor:
    """Return the pictures with colours changed, grey and blurred by chance."""
    n = len(pictures)
    jittered = _chosen(n, how.jitter_chance, generator)
    strongest = (0.8 * how.jitter, 0.8 * how.jitter, 0.8 * how.jitter, 0.2 * how.jitter)
    factors = [
        torch.where(jittered, 1 + _uniform((n,), -amount, amount, generator), 1.0).clamp(min=0)
        for amount in strongest
    ]
    order = torch.randperm(4, generator=generator, device=generator.device).tolist()
    pictures = jitter(pictures, factors, order)
    is_grey = _chosen(n, how.grey_chance, generator).view(-1, 1, 1, 1)
    pictures = torch.where(is_grey, grey(pictures).expand_as(pictures), pictures)
    sigma = _uniform((n,), how.blur_max_px / 20, how.blur_max_px, generator)
    sigma = torch.where(_chosen(n, how.blur_chance, generator), sigma, 0.0)
    return blur(pictures, sigma, radius_px=math.ceil(3 * how.blur_max_px))


def jitter(pictures: Tensor, factors: Sequence[Tensor], order: Sequence[int]) -> Tensor:
    """Return the pictures with other brightness, contrast, saturation and hue, kept in [0, 1].

    factors: one [B] for each of the four, where 1 leaves a picture as it is; of the hue, 1 + turns
    of the colour circle. order: a permutation of 0 to 3, in which they are applied.
    """
    brightness, contrast, saturation, hue = (factor.view(-1, 1, 1, 1) for factor in factors)
    for number in order:
        if number == 0:
            pictures = pictures * brightness
        elif number == 1:
            mean = grey(pictures).mean(dim=(2, 3), keepdim=True)
            pictures = mean + contrast * (pictures - mean)
        elif number == 2:
            level = grey(pictures)
            pictures = level + saturation * (pictures - level)
        else:
            pictures = turn_hue(pictures, hue - 1)
        pictures = pictures.clamp(0, 1)
    return pictures


def grey(pictures: Tensor) -> Tensor:
    """Return the luma [B, 1, H, W] of pictures [B, 3, H, W]."""
    weights = torch.tensor(GREY, dtype=pictures.dtype, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def turn_hue(pictures: Tensor, turns: Tensor) -> Tensor:
    """Return pictures whose hue in HSV is moved by `turns` [B, 1, 1, 1] of the colour circle."""
    high, index = pictures.max(dim=1, keepdim=True)
    chroma = high - pictures.amin(dim=1, keepdim=True)
    red, green, blue = pictures[:, :1], pictures[:, 1:2], pictures[:, 2:]
    sixths = torch.cat([green - blue, blue - red, red - green], 1).gather(1, index)
    sixths = sixths / chroma.clamp(min=1e-12) + 2 * index + 6 * turns
    # Foley & van Dam: each channel is the value less chroma times a trapezium around the circle.
    offset = torch.tensor([5.0, 3.0, 1.0], device=pictures.device).view(1, 3, 1, 1)
    k = (offset + sixths) % 6
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def blur(pictures: Tensor, sigma: Tensor, radius_px: int) -> Tensor:
    """Return pictures convolved with Gaussians of their own sigma [B] in px, cut at the radius.

    sigma 0 leaves a picture as it is; at the borders it is mirrored.
    """
    b, channels, height, width = pictures.shape
    radius_px = min(radius_px, height - 1, width - 1)  # as far as a mirror reaches
    x = torch.arange(-radius_px, radius_px + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (x / sigma.clamp(min=1e-3).view(-1, 1)) ** 2)  # [B, K]
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, 0)
    padded = F.pad(pictures, [radius_px] * 4, mode="reflect").flatten(0, 1).unsqueeze(0)
    rows = F.conv2d(padded, kernel.view(-1, 1, 1, kernel.shape[1]), groups=b * channels)
    both = F.conv2d(rows, kernel.view(-1, 1, kernel.shape[1], 1), groups=b * channels)
    return both.view(b, channels, height, width)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def _chosen(n: int, chance: float, generator: torch.Generator) -> Tensor:
    """Return bool [n], each True with this chance."""
    return torch.rand(n, generator=generator, device=generator.device) < chance
