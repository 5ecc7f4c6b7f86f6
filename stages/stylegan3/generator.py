"""The generator of StyleGAN3-T: noise z → latent w → waves, filtered layer by layer → a picture.

Karras et al., Alias-Free Generative Adversarial Networks, NeurIPS 2021. In place of a learnt
constant stand waves of fixed frequencies, which a latent turns and moves; there is no noise, and no
layer knows where it is. 1024 px: 16 latents. For inference: what training alone needs is left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.stylegan2.generator import Mapping
from stages.stylegan2.layers import EPS, Linear
from stages.stylegan3.filters import Filtered, lowpass
from stages.stylegan3.plan import Band, bands

TAPS = 6  # of a filter, per sample of the coarser grid
KERNEL = 3
OUTPUT_SCALE = 0.25


class Waves(nn.Module):
    """w [B, W] → [B, C, S, S]: sin 2π (f · q + φ), mixed by learnt weights.

    q: the place p of a sample, in picture sides from the middle, moved as q = R(w) T(w) M p.
    `transform` is M [3, 3], by which a user moves the picture. The frequencies lie within the band.
    """

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, band: Band, w_dim: int) -> None:
        super().__init__()
        self.band = band
        count = band.channels
        radius, angle = band.cutoff * torch.rand(count).sqrt(), 2 * math.pi * torch.rand(count)
        freqs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        self.register_buffer("freqs", freqs)
        self.register_buffer("phases", torch.rand(count) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.weight = nn.Parameter(torch.randn(count, count))
        self.affine = Linear(w_dim, 4)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))

    def forward(self, w: Tensor) -> Tensor:
        move = self._move(w) @ self.transform  # [B, 3, 3]
        turn, shift = move[:, :2, :2], move[:, :2, 2]
        sample = torch.arange(self.band.side, device=w.device, dtype=w.dtype)
        line = (sample + 0.5 - self.band.side / 2) / self.band.rate
        y, x = torch.meshgrid(line, line, indexing="ij")
        places = torch.stack([x, y], dim=-1).reshape(1, -1, 2)  # [1, S · S, 2]
        moved = places @ turn.transpose(1, 2) + shift[:, None]
        waves = torch.sin(2 * math.pi * (moved @ self.freqs.T + self.phases))  # [B, S · S, C]
        mixed = (waves * self._amplitude(turn)) @ (self.weight / math.sqrt(len(self.weight))).T
        return mixed.transpose(1, 2).reshape(len(w), -1, self.band.side, self.band.side)

    def _move(self, w: Tensor) -> Tensor:
        """Return R T [B, 3, 3] of (cos, sin, x, y), all over the length of the first two."""
        t: Tensor = self.affine(w)
        length = torch.linalg.vector_norm(t[:, :2], dim=1, keepdim=True)
        cos, sin, x, y = (t / length).unbind(dim=1)
        one, zero = torch.ones_like(cos), torch.zeros_like(cos)
        rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
        rotation = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        rows = [[one, zero, -x], [zero, one, -y], [zero, zero, one]]
        return rotation @ torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)

    def _amplitude(self, turn: Tensor) -> Tensor:
        """Return [B, 1, C]: 1 within the band, falling to 0 where the grid holds no more."""
        length = torch.linalg.vector_norm(self.freqs @ turn, dim=2)
        spare = self.band.rate / 2 - self.band.cutoff
        amplitude: Tensor = (1 - (length - self.band.cutoff) / spare).clamp(0, 1)
        return amplitude[:, None]


class Layer(nn.Module):
    """A modulated convolution and the filtered nonlinearity: [B, in, N, N] → [B, out, M, M].

    magnitude_ema: the mean square of what comes in, as training found it, which is divided out.
    colours: the last layer, 1×1, without demodulation and nonlinearity.
    """

    magnitude_ema: Tensor

    def __init__(self, came: Band, out: Band, w_dim: int, *, colours: bool = False) -> None:
        super().__init__()
        kernel = 1 if colours else KERNEL
        self.colours = colours
        self.affine = Linear(w_dim, came.channels, start=1.0)
        self.weight = nn.Parameter(torch.randn(out.channels, came.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out.channels))
        self.register_buffer("magnitude_ema", torch.ones(()))
        fine = max(came.rate, out.rate) * (1 if colours else 2)
        up, down = fine // came.rate, fine // out.rate
        self.filtered = Filtered(
            came.side + kernel - 1,  # the convolution adds a margin of its own
            out.side,
            up=up,
            up_taps=None if up == 1 else lowpass(TAPS * up, came.cutoff, 2 * came.half_width, fine),
            down=down,
            down_taps=None
            if down == 1
            else lowpass(TAPS * down, out.cutoff, 2 * out.half_width, fine),
            linear=colours,
        )

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style: Tensor = self.affine(w)  # [B, in]
        weight: Tensor = self.weight  # [out, in, k, k]
        if self.colours:
            style = style / math.sqrt(weight[0].numel())
        else:
            weight = weight * weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
        y = F.conv2d(x * style[:, :, None, None], weight, padding=weight.shape[-1] - 1)
        gain = self.magnitude_ema.rsqrt()
        if not self.colours:
            lengths = style.square() @ weight.square().sum(dim=(2, 3)).T  # [B, out]
            gain = gain * torch.rsqrt(lengths + EPS)[:, :, None, None]
        filtered: Tensor = self.filtered(y * gain, self.bias)
        return filtered


class Synthesis(nn.Module):
    """Latents [B, L, W] → pictures [B, 3, R, R], about [-1, 1]: one for the waves, one a layer."""

    def __init__(self, plan: list[Band], w_dim: int) -> None:
        super().__init__()
        self.waves = Waves(plan[0], w_dim)
        before = [plan[0], *plan[:-1]]
        self.layers = nn.ModuleList(
            Layer(came, out, w_dim, colours=out is plan[-1])
            for came, out in zip(before, plan, strict=True)
        )

    def forward(self, ws: Tensor) -> Tensor:
        x: Tensor = self.waves(ws[:, 0])
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, ws[:, number])
        return x * OUTPUT_SCALE


class Generator(nn.Module):
    """z [B, Z] → pictures [B, 3, R, R], with L latents of W numbers between.

    resolution: a power of 2. layers: without that of the colours, so L = layers + 2. base, most: a
    layer of cutoff f has min(base / 2f, most) channels.
    """

    def __init__(
        self,
        *,
        resolution: int,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 2,
        layers: int = 14,
        base: int = 32768,
        most: int = 512,
    ) -> None:
        super().__init__()
        if resolution < 16 or resolution & (resolution - 1):
            raise ValueError(f"resolution must be a power of 2 from 16 on, got {resolution}")
        self.resolution, self.z_dim, self.w_dim = resolution, z_dim, w_dim
        self.n_latents = layers + 2
        self.plan = bands(resolution, layers=layers, base=base, most=most)
        self.mapping = Mapping(z_dim, w_dim, mapping_layers)
        self.synthesis = Synthesis(self.plan, w_dim)

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Return pictures of noise [B, Z], ψ of the way from the mean latent."""
        w = self.mapping.w_mean.lerp(self.mapping(z), truncation)
        pictures: Tensor = self.synthesis(w[:, None].expand(-1, self.n_latents, -1))
        return pictures
