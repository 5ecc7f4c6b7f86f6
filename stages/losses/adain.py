"""The losses of AdaIN, and the moments that stand for style.

Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV
2017. The paper writes norms; its code, and this, take means of squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5  # added to the variance


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ and σ over the places of each channel [B, C, 1, 1] of features [B, C, h, w].

    σ² = Σ (x − μ)² / (h w − 1) + 10⁻⁵; of a single place, 10⁻⁵.
    """
    places = features.shape[2] * features.shape[3]
    mean = features.mean(dim=(2, 3), keepdim=True)
    squares = (features - mean).square().sum(dim=(2, 3), keepdim=True)
    return mean, torch.sqrt(squares / max(places - 1, 1) + EPSILON)


def content_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean of (f(g(t)) − t)² over all entries of features [B, C, h, w] (equation 12)."""
    return F.mse_loss(made, wanted)


def style_loss(made: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """Return Σ_l mean (μ(φ_l) − μ(φ_l^s))² + mean (σ(φ_l) − σ(φ_l^s))² (equation 13).

    made, style: features of each level [B, C_l, h, w]; sides may differ between the two.
    """
    total = made[0].new_zeros(())
    for one, other in zip(made, style, strict=True):
        for value, wanted in zip(moments(one), moments(other), strict=True):
            total = total + F.mse_loss(value, wanted)
    return total
