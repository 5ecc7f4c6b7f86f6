"""A network that says whether a picture and a sound belong together.

After Arandjelović and Zisserman, Look, Listen and Learn, ICCV 2017: two towers that see and hear
apart, and a small head over both. The head also gets the product of the two features, without
which it would have to learn from its two halves that they agree.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.nn.resnet import make_trunk


class AvcNetwork(nn.Module):
    """Pictures [B, 3, image_px, image_px], spectrograms [B, 1, F, N] → logits [B, B] of all pairs.

    Pictures are RGB, squashed to a square and normalised by ImageNet's mean and std. Features
    v, a [B, dim] are linear in the mean over a ResNet's places; the logit of a pair is
    linear(ReLU(linear([v, a, v ∘ a]))), dim wide. image_px: is only kept, for who feeds it.
    """

    def __init__(
        self, *, arch: str = "tiny", width: int | None = None, dim: int = 128, image_px: int = 128
    ) -> None:
        super().__init__()
        if min(dim, image_px) < 1:
            raise ValueError(f"dim and image_px must be positive, got {dim} and {image_px}")
        self.eye, self.ear = (make_trunk(arch, in_channels=c, width=width) for c in (3, 1))
        self.see = nn.Linear(self.eye.out_channels, dim)
        self.hear = nn.Linear(self.ear.out_channels, dim)
        self.head = nn.Sequential(nn.Linear(3 * dim, dim), nn.ReLU(), nn.Linear(dim, 1))
        self.dim, self.image_px = dim, image_px

    def forward(self, pictures: Tensor, spectrograms: Tensor) -> Tensor:
        v, a = self.pictures(pictures), self.sounds(spectrograms)
        v, a = v[:, None].expand(-1, len(a), -1), a[None].expand(len(v), -1, -1)
        return self.logits(v, a)

    def pictures(self, pictures: Tensor) -> Tensor:
        """Return v [B, dim]."""
        v: Tensor = self.see(self.eye(pictures).mean(dim=(2, 3)))
        return v

    def sounds(self, spectrograms: Tensor) -> Tensor:
        """Return a [B, dim]."""
        a: Tensor = self.hear(self.ear(spectrograms).mean(dim=(2, 3)))
        return a

    def logits(self, v: Tensor, a: Tensor) -> Tensor:
        """Return the logits [...] of features [..., dim]: above 0 for what belongs together."""
        logits: Tensor = self.head(torch.cat([v, a, v * a], dim=-1)).squeeze(-1)
        return logits
