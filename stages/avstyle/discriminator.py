"""The discriminator: is this patch of the picture real, and does it go with the sound?

PatchGAN (Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017)
with blur-pool in the place of strides, as CUT has it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.avstyle.layers import Norm, init_xavier
from stages.nn.blur_pool import BlurPool

Hears = Literal["early", "late", "none"]
HEARS = ("early", "late", "none")
FRAMES = 256  # of the spectrogram, the first ones


class Discriminator(nn.Module):
    """picture [B, 3, H, W] and a sound → scores of patches [B, 1, h, w]; 30 × 30 at 256 px.

    sound: "early", as published (2 767 809 parameters): the spectrogram [B, 1, F, N] without its
    last band and after its 256th frame stands, three times, before the colours; where the picture
    has another size than it, by the means of its cells. "late": a vector [B, sound_dim] joins each
    patch behind the last norm, and one more layer of 1 × 1 weighs both together; the paper leaves
    this open. "none": the picture alone (2 764 737 parameters).
    """

    def __init__(
        self, *, width: int = 64, layers: int = 3, sound: Hears = "early", sound_dim: int = 256
    ) -> None:
        super().__init__()
        if sound not in HEARS:
            raise ValueError(f"sound must be one of {', '.join(HEARS)}, got {sound!r}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        self.sound = sound
        widths = [width * min(2**n, 8) for n in range(layers + 1)]
        self.first = nn.Conv2d(6 if sound == "early" else 3, width, 4, padding=1)
        self.blur_pool = BlurPool()
        self.inner = nn.ModuleList([nn.Conv2d(a, b, 4, padding=1) for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([Norm(b) for b in widths[1:]])
        last = widths[-1]
        self.join = nn.Conv2d(last + sound_dim, last, 1) if sound == "late" else None
        self.last = nn.Conv2d(last, 1, 4, padding=1)
        init_xavier(self)

    def forward(self, picture: Tensor, sound: Tensor | None = None) -> Tensor:
        if (sound is None) != (self.sound == "none"):
            got = "None" if sound is None else list(sound.shape)
            raise ValueError(f"a discriminator with sound {self.sound!r} got {got} for it")
        y = picture
        if self.sound == "early" and sound is not None:
            image = as_picture(sound, picture.shape[2], picture.shape[3])
            y = torch.cat([image.to(picture.dtype).expand(-1, 3, -1, -1), picture], dim=1)
        y = F.leaky_relu(self.first(y), 0.2)
        for conv, norm in zip(self.inner, self.norms, strict=True):
            # Before each but the first: the last inner convolution is not halved.
            y = F.leaky_relu(norm(conv(self.blur_pool(y))), 0.2)
        if self.join is not None and sound is not None:
            tiled = sound.to(y.dtype)[..., None, None].expand(-1, -1, *y.shape[2:])
            y = F.leaky_relu(self.join(torch.cat([y, tiled], dim=1)), 0.2)
        scores: Tensor = self.last(y)
        return scores


def as_picture(spectrogram: Tensor, height: int, width: int) -> Tensor:
    """Return a spectrogram [B, 1, F, N] as one channel of a picture, [B, 1, height, width].

    Without the last band, which is the Nyquist frequency, and what comes after 256 frames; means
    over cells, if that has not the size asked for: 257 × 301 is 256 × 256 as it stands.
    """
    image = spectrogram[:, :, :-1, :FRAMES]
    if image.shape[2:] == (height, width):
        return image
    return F.adaptive_avg_pool2d(image, (height, width))
