"""Where in the spectrogram a feature comes from.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Score = Callable[[Tensor], Tensor]  # output of the network [B, D] → [B]


def grad_cam(network: nn.Module, layer: nn.Module, x: Tensor, score: Score) -> Tensor:
    """Return L = ReLU(Σ_c α_c A_c), α_c = mean of ∂score/∂A_c over the map: [B, H, W] as x.

    A [B, C, h, w] is what `layer` puts out while `network` sees x [B, channels, H, W]; the map is
    brought to H × W bilinearly. In the units of the score, non-negative; all 0 where nothing speaks
    for it. Weights get no gradient.
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            value = score(network(x))  # [B]
            (slope,) = torch.autograd.grad(value.sum(), kept[-1])  # [B, C, h, w]
    finally:
        handle.remove()
    weights = slope.mean(dim=(2, 3), keepdim=True)
    coarse = F.relu((weights * kept[-1].detach()).sum(dim=1, keepdim=True))  # [B, 1, h, w]
    return F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def cosine_to(target: Tensor) -> Score:
    """Return z → cos(z, target); target [D] or [B, D]."""

    def cosine(z: Tensor) -> Tensor:
        similarity: Tensor = F.cosine_similarity(z, target.expand_as(z), dim=-1)
        return similarity

    return cosine


def own_length(z: Tensor) -> Tensor:
    """Return ‖z‖ [B]: what makes up the feature itself.

    Its cosine to itself will not do: that is 1 already, so its gradient is 0 everywhere.
    """
    length: Tensor = torch.linalg.vector_norm(z, dim=-1)
    return length
