"""How a text-image model sees a picture: resized, cropped or squashed, its colours normalised.

The same twice: as the published models do it, by Pillow on stored pictures, and by torch on those
that a generator makes, where a gradient has to pass. Both use Catmull-Rom's cubic (a = -0.5), or
linear, interpolation with a kernel that widens where a picture shrinks. Pillow rounds to 8 bits
after each direction and cuts off what overshoots black or white; torch does neither. Where nothing
overshoots they agree within 1.5 / 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.frames import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[float, float, float]

CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
HALF: Colour = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Sight:
    """From pictures of any size to [side_px, side_px].

    crop: the short side becomes side_px and the centre is kept; else the picture is squashed.
    """

    side_px: int
    crop: bool = True
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    mean: Colour = CLIP_MEAN
    std: Colour = CLIP_STD

    def stored(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return float32 [N, 3, side, side] of RGB pictures uint8 [H, W, 3], each of any size."""
        squares = np.stack([self.square(image) for image in images])
        return torch.from_numpy(normalise(squares, self.mean, self.std))

    def made(self, images: Tensor) -> Tensor:
        """Return float32 [B, 3, side, side] of pictures [B, 3, H, W] in [-1, 1], with gradients.

        What lies outside is clamped first, as it is when a picture is stored.
        """
        x = (images.float().clamp(-1, 1) + 1) / 2
        high, wide = self._resized(*x.shape[2:])
        if (high, wide) != x.shape[2:]:
            x = F.interpolate(x, (high, wide), mode=self.filter, antialias=True)
        top, left = (high - self.side_px) // 2, (wide - self.side_px) // 2
        x = x[:, :, top : top + self.side_px, left : left + self.side_px]
        mean, std = (x.new_tensor(c)[:, None, None] for c in (self.mean, self.std))
        return (x - mean) / std

    def square(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture [H, W, 3] as [side, side, 3]."""
        from PIL import Image

        high, wide = self._resized(*image.shape[:2])
        how = Image.Resampling.BICUBIC if self.filter == "bicubic" else Image.Resampling.BILINEAR
        resized = Image.fromarray(image).resize((wide, high), how)
        left, top = (wide - self.side_px) // 2, (high - self.side_px) // 2
        return np.asarray(resized.crop((left, top, left + self.side_px, top + self.side_px)))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if not self.crop:
            return self.side_px, self.side_px
        short = min(height, width)
        return int(self.side_px * height / short), int(self.side_px * width / short)
