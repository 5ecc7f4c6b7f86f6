"""The discriminator of StyleGAN2: residual blocks, then how much the pictures of a group differ.

256 px: 28 864 129 parameters with base 32768, 24 001 089 with 16384.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.stylegan2.generator import FIRST_PX, channels, require_resolution
from stages.stylegan2.layers import EPS, Conv, Linear, leaky

GROUP = 4  # pictures that are compared with each other


class DownBlock(nn.Module):
    """[B, in, H, W] → [B, out, H/2, W/2]: (convolutions + shortcut) / √2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.same = Conv(in_channels, in_channels, 3)
        self.down = Conv(in_channels, out_channels, 3, down=True)
        self.shortcut = Conv(in_channels, out_channels, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky(self.same(x), self.same.bias)
        y = leaky(self.down(y), self.down.bias)
        shortcut: Tensor = self.shortcut(x)
        return (y + shortcut) / math.sqrt(2)


class Discriminator(nn.Module):
    """Pictures [B, 3, R, R] → scores [B], high for real ones."""

    def __init__(self, *, resolution: int, base: int = 32768, most: int = 512) -> None:
        super().__init__()
        require_resolution(resolution)
        sides = [2**n for n in range(int(math.log2(resolution)), 1, -1)]  # R ... 8, 4
        widths = [channels(side, base, most) for side in sides]
        self.from_rgb = Conv(3, widths[0], 1)
        self.blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.last = Conv(widths[-1] + 1, widths[-1], 3)
        self.hidden = Linear(widths[-1] * FIRST_PX**2, widths[-1])
        self.score = Linear(widths[-1], 1)

    def forward(self, picture: Tensor) -> Tensor:
        x = leaky(self.from_rgb(picture), self.from_rgb.bias)
        for block in self.blocks:
            x = block(x)
        x = torch.cat([x, minibatch_deviation(x)], dim=1)
        x = leaky(self.last(x), self.last.bias)
        x = leaky(self.hidden(x.flatten(1)))
        score: Tensor = self.score(x)[:, 0]
        return score


def minibatch_deviation(x: Tensor, group: int = GROUP) -> Tensor:
    """Return [B, 1, H, W]: the standard deviation within each sample's group, mean over all places.

    Sample b belongs to group b mod (B / group); the group is the largest divisor of B up to
    `group`. Karras et al., Progressive Growing of GANs, ICLR 2018.
    """
    count, _, height, width = x.shape
    size = next(n for n in range(min(group, count), 0, -1) if count % n == 0)
    groups = x.float().reshape(size, count // size, -1)
    deviation = (groups.var(dim=0, correction=0) + EPS).sqrt().mean(dim=1)  # [B / size]
    return deviation.repeat(size)[:, None, None, None].expand(-1, 1, height, width).to(x.dtype)
