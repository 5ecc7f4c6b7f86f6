"""The image encoder, and SwAV around it, by which it learns without labels.

Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.nn.resnet import make_trunk


class ImageEncoder(nn.Module):
    """ResNet → global average: pictures [B, 3, H, W] → z^V [B, out_dim], raw and non-negative.

    Pictures are RGB, normalised by ImageNet's mean and std. out_dim is 2048 for ResNet-50
    (23 508 032 parameters) and 8 · width otherwise.
    """

    def __init__(self, *, arch: str = "resnet50", width: int | None = None) -> None:
        super().__init__()
        self.trunk = make_trunk(arch, width=width)
        self.out_dim = self.trunk.out_channels

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.trunk(pictures)  # [B, out_dim, h, w]
        return features.mean(dim=(2, 3))


class SwAV(nn.Module):
    """Image encoder → projection onto the unit sphere → scores of the prototypes.

    The projection is linear → BN → ReLU → linear, out_dim → hidden_dim → embed_dim; scores are the
    inner products with `n_prototypes` vectors, cosines once `normalise_prototypes` was called,
    which belongs before every step. hidden_dim None: as wide as the features.
    """

    def __init__(
        self,
        *,
        arch: str = "resnet50",
        width: int | None = None,
        hidden_dim: int | None = None,
        embed_dim: int = 128,
        n_prototypes: int = 3000,
    ) -> None:
        super().__init__()
        self.encoder = ImageEncoder(arch=arch, width=width)
        hidden = hidden_dim or self.encoder.out_dim
        self.projection_head = nn.Sequential(
            nn.Linear(self.encoder.out_dim, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, embed_dim),
        )
        self.prototypes = nn.Linear(embed_dim, n_prototypes, bias=False)

    def forward(self, crops: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return embeddings z [V, B, embed_dim], of unit length, and scores [V, B, n_prototypes].

        crops: V views of B pictures, each [B, 3, h, w]; neighbours of one size share a pass.
        """
        features = torch.cat([self.encoder(torch.cat(group)) for group in _by_size(crops)])
        z = F.normalize(self.projection_head(features), dim=1)
        scores: Tensor = self.prototypes(z)
        per_crop = (len(crops), len(crops[0]), -1)
        return z.view(per_crop), scores.view(per_crop)

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        """Give every prototype unit length."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))


def _by_size(crops: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the crops, in their order, in groups of equal height and width."""
    groups: list[list[Tensor]] = []
    for crop in crops:
        if groups and groups[-1][0].shape[2:] == crop.shape[2:]:
            groups[-1].append(crop)
        else:
            groups.append([crop])
    return groups
