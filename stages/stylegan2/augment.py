"""Adaptive discriminator augmentation: how to train a GAN on few pictures.

Karras et al., Training Generative Adversarial Networks with Limited Data, NeurIPS 2020. Real and
made pictures pass random transformations before the discriminator, each with probability p, and p
follows how far the discriminator overfits. Here without the paper's wavelet low-pass filters:
pictures are resampled bilinearly, and reflected beyond their edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GRID = 90.0  # degrees of the rotations that only move pixels
SHIFT = 0.125  # share of the side: the largest whole shift, the deviation of the other
SCALE = 0.2  # deviation of log2 of both scales
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # deviations: plain, and of log2


class Augment(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] → the same, transformed; p is kept in checkpoints.

    length: over how many pictures p may go from 0 to 1.
    """

    p: Tensor

    def __init__(self, target: float, length: int, p: float = 0.0) -> None:
        super().__init__()
        self.target, self.length = target, length
        self.register_buffer("p", torch.tensor(p))

    def forward(self, pictures: Tensor, rng: torch.Generator) -> Tensor:
        p, count = self.p, len(pictures)
        if not p:
            return pictures
        draw = Draw(count, p, rng, pictures.device)
        places, shift, colours = geometry(draw), pixel_shift(draw, pictures.shape[-1]), colour(draw)
        return recoloured(moved(pictures, shift @ places), colours)

    @torch.no_grad()
    def adapt(self, signs: Tensor, pictures: int) -> None:
        """Move p after so many pictures, by the mean sign of the real ones' scores: r_t.

        p rises while r_t is above the target, that is, while the discriminator overfits.
        """
        step = torch.sign(signs - self.target) * pictures / self.length
        self.p.add_(step.to(self.p)).clamp_(0, 1)


class Draw:
    """Random values [B] of one batch: each is `off` but with probability p."""

    def __init__(self, count: int, p: Tensor | float, rng: torch.Generator, device: torch.device):
        self.count, self.rng, self.device = count, rng, device
        self.p = torch.as_tensor(p, device=device)

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.count, generator=self.rng, device=self.device)

    def normal(self, deviation: float) -> Tensor:
        return deviation * torch.randn(self.count, generator=self.rng, device=self.device)

    def whole(self, below: int) -> Tensor:
        return torch.floor(self.uniform(0, below)).clamp(max=below - 1)

    def sometimes(self, values: Tensor, off: float, p: Tensor | None = None) -> Tensor:
        return torch.where(self.uniform(0, 1) < (self.p if p is None else p), values, off)


def geometry(draw: Draw) -> Tensor:
    """Return [B, 3, 3]: from a place (x, y, 1) in the result, in [-1, 1], to one in the picture."""
    flip = draw.sometimes(1 - 2 * draw.whole(2), 1.0)
    turn = draw.sometimes(GRID * draw.whole(4), 0.0)
    size = draw.sometimes(torch.exp2(draw.normal(SCALE)), 1.0)
    # Twice, before and after the stretch; together an angle is drawn with probability p.
    each = 1 - torch.sqrt(1 - draw.p)
    before = draw.sometimes(draw.uniform(-180, 180), 0.0, each)
    after = draw.sometimes(draw.uniform(-180, 180), 0.0, each)
    stretch = draw.sometimes(torch.exp2(draw.normal(SCALE)), 1.0)
    # A shift of the whole side is 2 in [-1, 1].
    x, y = (draw.sometimes(2 * draw.normal(SHIFT), 0.0) for _ in range(2))
    one = torch.ones_like(flip)
    return (
        scaling(flip, one)
        @ rotation(turn)
        @ scaling(1 / size, 1 / size)
        @ rotation(before)
        @ scaling(1 / stretch, stretch)
        @ rotation(after)
        @ translation(x, y)
    )


def pixel_shift(draw: Draw, side_px: int) -> Tensor:
    """Return [B, 3, 3]: a shift by whole pixels, up to an eighth of the side."""
    x, y = (
        draw.sometimes(torch.round(draw.uniform(-SHIFT, SHIFT) * side_px), 0.0) for _ in range(2)
    )
    return translation(2 * x / side_px, 2 * y / side_px)


def colour(draw: Draw) -> Tensor:
    """Return [B, 4, 4]: from a colour (r, g, b, 1) to another."""
    bright = draw.sometimes(draw.normal(BRIGHTNESS), 0.0)
    contrast = draw.sometimes(torch.exp2(draw.normal(CONTRAST)), 1.0)
    flip = draw.sometimes(1 - 2 * draw.whole(2), 1.0)
    hue = draw.sometimes(draw.uniform(-math.pi, math.pi), 0.0)
    saturation = draw.sometimes(torch.exp2(draw.normal(SATURATION)), 1.0)
    matrices = torch.eye(4, device=draw.device).repeat(draw.count, 1, 1)
    matrices[:, :3, :3] = (saturated(saturation) @ hue_turned(hue) @ grey_scaled(flip)) * contrast[
        :, None, None
    ]
    offset = torch.einsum("bij,bj->bi", matrices[:, :3, :3], bright[:, None].expand(-1, 3))
    matrices[:, :3, 3] = offset
    return matrices


def grey(like: Tensor) -> Tensor:
    """Return the projection [3, 3] on the axis of greys."""
    return torch.full((3, 3), 1 / 3, device=like.device)


def grey_scaled(factor: Tensor) -> Tensor:
    """Return [B, 3, 3] that scales what lies on the axis of greys; -1 turns light and dark over."""
    axis = grey(factor)
    return torch.eye(3, device=factor.device) + (factor[:, None, None] - 1) * axis


def saturated(factor: Tensor) -> Tensor:
    """Return [B, 3, 3] that scales what lies off the axis of greys."""
    axis = grey(factor)
    return axis + factor[:, None, None] * (torch.eye(3, device=factor.device) - axis)


def hue_turned(angle: Tensor) -> Tensor:
    """Return the rotations [B, 3, 3] by `angle` [B], in rad, around the axis of greys."""
    axis, third = grey(angle), 1 / math.sqrt(3)
    cross = third * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device)
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return cos * torch.eye(3, device=angle.device) + sin * cross + (1 - cos) * axis


def scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def translation(x: Tensor, y: Tensor) -> Tensor:
    matrices = torch.eye(3, device=x.device).repeat(len(x), 1, 1)
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


def rotation(degrees: Tensor) -> Tensor:
    angle = torch.deg2rad(degrees)
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, torch.ones_like(angle)]]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def moved(pictures: Tensor, places: Tensor) -> Tensor:
    """Return pictures [B, 3, H, W] read at `places` [B, 3, 3] times their own."""
    grid = F.affine_grid(places[:, :2], list(pictures.shape), align_corners=False)
    return F.grid_sample(
        pictures.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    ).to(pictures.dtype)


def recoloured(pictures: Tensor, matrices: Tensor) -> Tensor:
    """Return pictures [B, 3, H, W] whose colours [B, 4, 4] have changed."""
    mixed = torch.einsum("bij,bjhw->bihw", matrices[:, :3, :3].to(pictures.dtype), pictures)
    return mixed + matrices[:, :3, 3].to(pictures.dtype)[:, :, None, None]
