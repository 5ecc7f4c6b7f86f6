"""The generator of StyleGAN2: noise z → latent w → one style per layer → a picture.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020: skip connections,
no progressive growing. 256 px: 30 034 338 parameters with base 32768, 24 767 458 with 16384.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.stylegan2.layers import Linear, Modulated, Upsample, leaky, second_moment_norm

MAPPING_PACE = 0.01
MEAN_DECAY = 0.998
FIRST_PX = 4


def channels(side_px: int, base: int, most: int) -> int:
    """Return how many channels the layers of this side have."""
    return min(base // side_px, most)


def n_latents(resolution: int) -> int:
    """Return L, how many latents a picture of this side is made of: 14 at 256, 18 at 1024."""
    return 2 * int(math.log2(resolution)) - 2


class Mapping(nn.Module):
    """z [B, Z] → w [B, W]: eight linear layers with leaky ReLU, 2 101 248 parameters at 512.

    `w_mean` [W] follows the mean of w while training.
    """

    w_mean: Tensor

    def __init__(self, z_dim: int, w_dim: int, layers: int) -> None:
        super().__init__()
        sizes = [z_dim] + [w_dim] * layers
        self.layers = nn.ModuleList(Linear(a, b, pace=MAPPING_PACE) for a, b in pairwise(sizes))
        self.register_buffer("w_mean", torch.zeros(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        w = second_moment_norm(z.float())
        for layer in self.layers:
            w = leaky(layer(w))
        return w

    @torch.no_grad()
    def follow(self, w: Tensor) -> None:
        """Move the mean towards that of w [B, W]."""
        self.w_mean.lerp_(w.detach().float().mean(dim=0), 1 - MEAN_DECAY)


class Layer(nn.Module):
    """A modulated 3×3 convolution, noise, bias and leaky ReLU.

    The fixed noise [H, W] belongs to the weights; with `rng` each sample gets fresh noise.
    """

    noise: Tensor

    def __init__(self, side_px: int, in_channels: int, out_channels: int, w_dim: int, *, up: bool):
        super().__init__()
        self.conv = Modulated(in_channels, out_channels, 3, w_dim, up=up)
        self.noise_gain = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise", torch.randn(side_px, side_px))

    def forward(self, x: Tensor, w: Tensor, rng: torch.Generator | None) -> Tensor:
        x = self.conv(x, w)
        noise = self.noise
        if rng is not None:
            shape = (len(x), 1, *x.shape[2:])
            noise = torch.randn(shape, generator=rng, device=x.device)
        return leaky(x + (self.noise_gain * noise).to(x.dtype), self.bias)


class ToRgb(nn.Module):
    """A modulated 1×1 convolution to colours: [B, C, H, W] → [B, 3, H, W]."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.conv = Modulated(in_channels, 3, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        colours: Tensor = self.conv(x, w)
        return colours + self.bias.to(x.dtype)[:, None, None]


class Block(nn.Module):
    """All at one resolution: one layer that doubles it, one that does not, and their colours."""

    def __init__(self, side_px: int, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.up = Layer(side_px, in_channels, out_channels, w_dim, up=True)
        self.same = Layer(side_px, out_channels, out_channels, w_dim, up=False)
        self.to_rgb = ToRgb(out_channels, w_dim)
        self.grow = Upsample()

    def forward(
        self, x: Tensor, picture: Tensor, ws: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return features and picture at twice the side; ws: its three latents [B, 3, W]."""
        x = self.up(x, ws[:, 0], rng)
        x = self.same(x, ws[:, 1], rng)
        return x, self.grow(picture) + self.to_rgb(x, ws[:, 2])


class Synthesis(nn.Module):
    """Latents [B, L, W] → pictures [B, 3, R, R], about [-1, 1]. The first is 4 px, learnt."""

    def __init__(self, resolution: int, w_dim: int, base: int, most: int) -> None:
        super().__init__()
        width = channels(FIRST_PX, base, most)
        self.const = nn.Parameter(torch.randn(width, FIRST_PX, FIRST_PX))
        self.first = Layer(FIRST_PX, width, width, w_dim, up=False)
        self.to_rgb = ToRgb(width, w_dim)
        sides = [2**n for n in range(3, int(math.log2(resolution)) + 1)]
        self.blocks = nn.ModuleList(
            Block(side, channels(side // 2, base, most), channels(side, base, most), w_dim)
            for side in sides
        )

    def forward(self, ws: Tensor, rng: torch.Generator | None = None) -> Tensor:
        x = self.const.expand(len(ws), -1, -1, -1)
        x = self.first(x, ws[:, 0], rng)
        picture: Tensor = self.to_rgb(x, ws[:, 1])
        for number, block in enumerate(self.blocks):
            # The latent of a block's colours is that of the next block's first layer too.
            x, picture = block(x, picture, ws[:, 2 * number + 1 : 2 * number + 4], rng)
        return picture


class Made(NamedTuple):
    """Pictures, and the latents that they are of."""

    pictures: Tensor  # [B, 3, R, R]
    latents: Tensor  # [B, L, W]


class Generator(nn.Module):
    """z [B, Z] → pictures [B, 3, R, R], with L latents of W numbers between.

    resolution: a power of 2 from 8 on. base, most: a layer of side s has min(base / s, most)
    channels. mapping_layers: 8, or 2 in later recipes.
    """

    def __init__(
        self,
        *,
        resolution: int,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        base: int = 32768,
        most: int = 512,
    ) -> None:
        super().__init__()
        require_resolution(resolution)
        self.resolution, self.z_dim, self.w_dim = resolution, z_dim, w_dim
        self.n_latents = n_latents(resolution)
        self.mapping = Mapping(z_dim, w_dim, mapping_layers)
        self.synthesis = Synthesis(resolution, w_dim, base, most)

    def forward(
        self,
        z: Tensor,
        *,
        other: Tensor | None = None,
        cuts: Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> Made:
        """Return pictures as training makes them; rng: of fresh noise, None: the fixed one.

        Style mixing: from layer cuts [B] on, the latents are those of `other` [B, Z].
        """
        w = self.mapping(z)  # [B, W]
        if self.training and torch.is_grad_enabled():
            self.mapping.follow(w)
        ws = w[:, None].expand(-1, self.n_latents, -1)
        if other is not None and cuts is not None:
            places = torch.arange(self.n_latents, device=z.device)
            mixed = (places >= cuts[:, None])[:, :, None]  # [B, L, 1]
            ws = torch.where(mixed, self.mapping(other)[:, None], ws)
        return Made(self.synthesis(ws, rng), ws)

    def latents(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Return ws [B, L, W], ψ of the way from the mean latent (truncation ψ)."""
        w = self.mapping.w_mean.lerp(self.mapping(z), truncation)
        return w[:, None].expand(-1, self.n_latents, -1)


def require_resolution(resolution: int) -> None:
    """Raise ValueError unless it is a power of 2 that the networks can have."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of 2 from 8 on, got {resolution}")
