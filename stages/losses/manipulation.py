"""What moves a latent toward a sound or a text, and what holds it where it was.

Lee et al., Robust Sound-Guided Image Manipulation, Neural Networks 2024, Eq. 14–17; each function
gives one value per sample [B], so that the sum over a batch mixes no samples.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Mask = Literal["squared", "literal", "even"]


def guidance_hinge(similarity: Tensor, source: Tensor) -> Tensor:
    """Return max(0, 1 − (s − s_0)) of cosines [B] to the guidance: 1 at the source (Eq. 15).

    s: of the picture as it is moved, s_0: of the source. The paper prints cosine distances, by
    which pictures would move away from the sound; similarities are what it must mean.
    """
    return torch.relu(1 - similarity + source)


def layer_mask(gate: Tensor) -> Tensor:
    """Return m = L · softmax(g) of [B, L]: weights of the layers, whose mean is 1."""
    return gate.shape[1] * torch.softmax(gate, dim=1)


def masked_distance(moved: Tensor, source: Tensor, gate: Tensor, mask: Mask = "squared") -> Tensor:
    """Return how far latents [B, L, W] are from their source, layer by layer weighed (Eq. 17).

    gate: g [B, L], learnt with the latents, 0 at first.

        squared   ‖m ⊙ Δ‖²,          m = L · softmax(g)
        literal   ‖softmax(g) ⊙ Δ‖,  whose softmax is about 1 / L, so that it hardly holds
        even      ‖Δ‖²,              every layer the same; g has no part in it

    The gradient at Δ = 0 is 0 in all three.
    """
    step = moved - source
    if mask == "even":
        return step.square().sum(dim=(1, 2))
    if mask == "squared":
        return (layer_mask(gate)[:, :, None] * step).square().sum(dim=(1, 2))
    if mask == "literal":
        weighed = torch.softmax(gate, dim=1)[:, :, None] * step
        # Of this norm, unlike of √Σx², the gradient is 0 where it is 0.
        length: Tensor = torch.linalg.vector_norm(weighed, dim=(1, 2))
        return length
    raise ValueError(f"mask must be squared, literal or even, got {mask!r}")


def identity_distance(moved: Tensor, source: Tensor) -> Tensor:
    """Return 1 − ⟨R(x), R(x_0)⟩ of unit vectors [B, D] of two faces (Eq. 16).

    The source is a constant to the gradient; the moved face is not.
    """
    return 1 - (moved * source.detach()).sum(dim=1)
