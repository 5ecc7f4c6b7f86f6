"""Penalties on gradients, which keep a GAN's two networks smooth; both can be differentiated.

Mescheder et al., Which Training Methods for GANs do actually Converge?, ICML 2018 (R1); Karras et
al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020 (path length).
"""

from __future__ import annotations

import torch
from torch import Tensor


def r1(scores: Tensor, pictures: Tensor) -> Tensor:
    """Return mean over b of |∂ Σ scores / ∂ pictures[b]|², of scores [B] and pictures [B, ...].

    The pictures are those that were scored, and require gradients.
    """
    (gradient,) = torch.autograd.grad(scores.float().sum(), pictures, create_graph=True)
    return gradient.float().square().flatten(1).sum(dim=1).mean()


def path_lengths(pictures: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Return |Jᵀ y| [B]: how far pictures [B, 3, H, W] move with their latents [B, L, W].

    y = noise / √(H W)                   noise: of N(0, 1), like the pictures
    |Jᵀ y|² = mean over L of |∂ Σ (pictures · y) / ∂ latents|²
    """
    height, width = pictures.shape[2:]
    along = (pictures.float() * noise).sum() / (height * width) ** 0.5
    (gradient,) = torch.autograd.grad(along, latents, create_graph=True)
    return gradient.float().square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor) -> Tensor:
    """Return mean (length - mean)² of lengths [B]; mean: their running one, a scalar."""
    return (lengths - mean).square().mean()
