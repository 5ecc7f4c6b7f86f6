"""Instance-conditioned BigGAN: pictures like the neighbours of a picture, told by its feature.

Casanova et al., Instance-conditioned GAN, NeurIPS 2021. The generator takes noise z and the
unit-norm feature h of an image encoder; Sound2Scene puts an audio feature in the place of h.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.sound2scene.biggan_layers import (
    DiscriminatorBlock,
    GeneratorBlock,
    SelfAttention,
    SpectralConv2d,
    SpectralLinear,
)

BOTTOM_PX = 4  # side of the first feature map

# Channels between the blocks, as multiples of `channels`, by the side of the picture.
GENERATOR_WIDTHS: dict[int, tuple[int, ...]] = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
DISCRIMINATOR_WIDTHS: dict[int, tuple[int, ...]] = {
    32: (4, 4, 4, 4),
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
}
DISCRIMINATOR_HALVINGS = {32: 2, 64: 4, 128: 5, 256: 6}


class Generator(nn.Module):
    """G(z, h): a picture in [-1, 1] from noise and a unit-norm instance feature.

    z is cut into one chunk for the first layer and one per block; each block is conditioned on its
    chunk beside the embedded feature.

    channels: width of the last block before the picture (ch; 96 or 64 in the paper).
    attention_px: self-attention after the blocks with this output side; none is allowed.
    Raises ValueError for sizes that do not fit together.
    """

    def __init__(
        self,
        *,
        resolution: int = 128,
        channels: int = 96,
        z_dim: int = 120,
        feature_dim: int = 2048,
        embed_dim: int = 512,
        attention_px: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        widths = [channels * m for m in _of_resolution(GENERATOR_WIDTHS, resolution)]
        n_blocks = len(widths) - 1
        if z_dim % (n_blocks + 1):
            raise ValueError(
                f"z_dim must be a multiple of {n_blocks + 1} at a resolution of {resolution} (one "
                f"chunk for the first layer and one per block), got {z_dim}"
            )
        sides = generator_sides(resolution)
        _require_sides(attention_px, sides)
        self.resolution, self.z_dim, self.feature_dim = resolution, z_dim, feature_dim
        self.chunk = z_dim // (n_blocks + 1)

        self.embed_feature = SpectralLinear(feature_dim, embed_dim)
        self.first = SpectralLinear(self.chunk, widths[0] * BOTTOM_PX**2)
        condition_dim = self.chunk + embed_dim
        self.blocks = nn.ModuleList(
            GeneratorBlock(a, b, condition_dim) for a, b in pairwise(widths)
        )
        self.attentions = _attentions(sides, widths[1:], attention_px)
        self.output_norm = nn.BatchNorm2d(widths[-1])
        self.output_conv = SpectralConv2d(widths[-1], 3)

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        """Return pictures [B, 3, resolution, resolution]; z [B, z_dim], h [B, feature_dim]."""
        bottom, *chunks = torch.split(z, self.chunk, dim=1)
        embedded = self.embed_feature(h)  # [B, embed_dim]
        x = self.first(bottom).view(len(z), -1, BOTTOM_PX, BOTTOM_PX)
        for n, (block, chunk) in enumerate(zip(self.blocks, chunks, strict=True)):
            x = block(x, torch.cat([embedded, chunk], dim=1))
            if str(n) in self.attentions:
                x = self.attentions[str(n)](x)
        return torch.tanh(self.output_conv(F.relu(self.output_norm(x))))


class Discriminator(nn.Module):
    """D(x, h) = wᵀφ(x) + b + ⟨V h + c, φ(x)⟩, with φ the sum over the last feature map.

    Projection discriminator (Miyato and Koyama, ICLR 2018) on the instance feature. Arguments as of
    the generator, ValueError too.
    """

    def __init__(
        self,
        *,
        resolution: int = 128,
        channels: int = 96,
        feature_dim: int = 2048,
        attention_px: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        widths = [channels * m for m in _of_resolution(DISCRIMINATOR_WIDTHS, resolution)]
        halvings = DISCRIMINATOR_HALVINGS[resolution]
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(a, b, downsample=n < halvings, first=n == 0)
            for n, (a, b) in enumerate(pairwise([3, *widths]))
        )
        sides = discriminator_sides(resolution)
        _require_sides(attention_px, sides)
        self.attentions = _attentions(sides, widths, attention_px)
        self.score = SpectralLinear(widths[-1], 1)
        self.embed_feature = SpectralLinear(feature_dim, widths[-1])

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return scores [B], high for real; x [B, 3, R, R] in [-1, 1], h [B, feature_dim]."""
        for n, block in enumerate(self.blocks):
            x = block(x)
            if str(n) in self.attentions:
                x = self.attentions[str(n)](x)
        phi = F.relu(x).sum(dim=(2, 3))  # [B, C]
        score: Tensor = self.score(phi).squeeze(1) + (self.embed_feature(h) * phi).sum(dim=1)
        return score


def generator_sides(resolution: int) -> list[int]:
    """Return the output side of each block of a generator."""
    return [BOTTOM_PX * 2**n for n in range(1, len(_of_resolution(GENERATOR_WIDTHS, resolution)))]


def discriminator_sides(resolution: int) -> list[int]:
    """Return the output side of each block of a discriminator."""
    n_blocks = len(_of_resolution(DISCRIMINATOR_WIDTHS, resolution))
    halvings = DISCRIMINATOR_HALVINGS[resolution]
    return [resolution // 2 ** min(n, halvings) for n in range(1, n_blocks + 1)]


def _require_sides(attention_px: Sequence[int], sides: Sequence[int]) -> None:
    if unknown := set(attention_px) - set(sides):
        raise ValueError(f"attention_px {sorted(unknown)} is none of the sides {sides}")


def _attentions(
    sides: Sequence[int], widths: Sequence[int], attention_px: Sequence[int]
) -> nn.ModuleDict:
    """Return self-attention by the number of the block that it follows."""
    places = zip(sides, widths, strict=True)
    return nn.ModuleDict(
        {str(n): SelfAttention(w) for n, (side, w) in enumerate(places) if side in attention_px}
    )


def _of_resolution(table: dict[int, tuple[int, ...]], resolution: int) -> tuple[int, ...]:
    if resolution not in table:
        raise ValueError(f"resolution must be one of {sorted(table)}, got {resolution}")
    return table[resolution]
