"""What PatchNCE compares: patches of the generator's layers, through a small network for each.

Park et al., Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.avstyle.layers import init_xavier

PATCHES = 256
EPS = 1e-7


class Projections(nn.Module):
    """Layers [B, C, H, W] at some locations → unit vectors [B, P, dim] of each layer.

    linear → ReLU → linear for each of `channels`, the C of the layers (560 384 parameters for a
    generator of width 64, `Content.layer_channels`); then x / (‖x‖ + 1e-7).
    """

    def __init__(self, *, channels: Sequence[int], dim: int = 256) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(
            [nn.Sequential(nn.Linear(c, dim), nn.ReLU(), nn.Linear(dim, dim)) for c in channels]
        )
        init_xavier(self)

    def forward(self, layers: Sequence[Tensor], locations: Sequence[Tensor]) -> list[Tensor]:
        """locations: those of each layer, int64 [P] in 0 … H·W − 1, as `sample_locations` draws."""
        vectors = []
        for mlp, layer, places in zip(self.mlps, layers, locations, strict=True):
            projected = mlp(_patches(layer, places)).float()
            vectors.append(projected / (projected.norm(dim=2, keepdim=True) + EPS))
        return vectors


def _patches(layer: Tensor, places: Tensor) -> Tensor:
    """Return [B, P, C] of a layer [B, C, H, W].

    The gradient has the layout that is taken from: another one than the layer's would be copied,
    all of it, where the gradients of both meet.
    """
    if layer.is_contiguous(memory_format=torch.channels_last):
        return layer.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, places)
    return layer.flatten(2).index_select(2, places).transpose(1, 2)


def sample_locations(
    layers: Sequence[Tensor], generator: torch.Generator, patches: int = PATCHES
) -> list[Tensor]:
    """Return places of each layer [B, C, H, W], int64 [min(patches, H·W)], none twice.

    The same for all pictures of the batch. generator: on the device of the layers.
    """
    return [
        torch.randperm(layer.shape[2] * layer.shape[3], generator=generator, device=layer.device)[
            :patches
        ]
        for layer in layers
    ]
