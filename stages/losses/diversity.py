"""A reward for pictures that differ where their noise does."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

CELLS = 8  # per side


def diversity(
    pictures: tuple[Tensor, Tensor], noises: tuple[Tensor, Tensor], limit: float
) -> Tensor:
    """Return E[min(d(x, x') / d(z, z'), limit)], what a generator is to raise.

    x = G(z, h) and x' = G(z', h) differ by their noise alone (Yang et al., Diversity-sensitive
    conditional generative adversarial networks, ICLR 2019). d is the mean absolute difference; of
    pictures, that of the mean colours of 8 × 8 cells, so that flicker of single pixels is no
    variety. pictures: two of [B, C, H, W]; noises: two of [B, Z]; limit: where enough is enough.
    """
    (x, other), (z, other_z) = pictures, noises
    apart = F.adaptive_avg_pool2d(x - other, CELLS).abs().flatten(1).mean(dim=1)
    noise_apart = (z - other_z).abs().mean(dim=1)
    return (apart / noise_apart.clamp(min=1e-6)).clamp(max=limit).mean()
