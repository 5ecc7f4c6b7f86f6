"""Every real picture keeps a made one near, whatever the game of two networks leaves out.

Of many noises, the one whose picture is nearest to a real picture is that picture's own, and the
generator brings the two together. Li and Malik, Implicit Maximum Likelihood Estimation, 2018;
beside a discriminator: Yu et al., Inclusive GAN, ECCV 2020, whose distance is LPIPS.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stages.losses.pyramid import averaged

COMPARED_PX = 16
AT_ONCE = 32  # pictures that are made at once


class Nearest(nn.Module):
    """Noises [N, Z], and what was last made of them; kept in checkpoints."""

    noises: Tensor
    made: Tensor  # [N, 3 · side²]

    def __init__(self, count: int, z_dim: int, resolution: int, device: torch.device) -> None:
        super().__init__()
        side = min(COMPARED_PX, resolution)
        self.factor = resolution // side
        self.register_buffer("noises", torch.zeros(count, z_dim, device=device))
        self.register_buffer("made", torch.zeros(count, 3 * side**2, device=device))

    @torch.no_grad()
    def draw(self, make: Callable[[Tensor], Tensor], rng: torch.Generator) -> None:
        """Draw other noises; make: pictures [B, 3, R, R] of noises [B, Z]."""
        self.noises.normal_(generator=rng)
        parts = torch.split(self.noises, AT_ONCE)
        self.made.copy_(torch.cat([self.compared(make(part)) for part in parts]))

    @torch.no_grad()
    def of(self, pictures: Tensor) -> Tensor:
        """Return the noises [B, Z] whose pictures are nearest to these [B, 3, R, R]."""
        return self.noises[torch.cdist(self.compared(pictures), self.made).argmin(dim=1)]

    def compared(self, pictures: Tensor) -> Tensor:
        return averaged(pictures, self.factor).flatten(1).float()
