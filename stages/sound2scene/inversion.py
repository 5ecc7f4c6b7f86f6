"""GAN inversion by optimisation: the noise and the feature from which a generator makes a picture.

Once a picture is G(z, h), moving h along the difference of two sounds' features edits it
(Sung-Bin et al., Sound2Scene, CVPR 2023: generation with image and sound).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.nn.sphere import unit_norm
from stages.sound2scene.icgan import Generator

Features = Callable[[Tensor], Tensor]  # pictures [B, 3, H, W] in [-1, 1] → features [B, D]


@dataclass(frozen=True, slots=True)
class Inversion:
    """What makes the pictures again, and how the search went."""

    z: Tensor  # [B, z_dim]
    h: Tensor  # [B, feature_dim], unit norm
    curve: Tensor  # [steps + 1, B], loss before each step and after the last


def invert(
    generator: Generator,
    image: Tensor,
    *,
    rng: torch.Generator,
    h: Tensor | None = None,
    steps: int = 500,
    lr: float = 0.05,
    candidates: int = 32,
    features: Features | None = None,
    feature_weight: float = 1.0,
) -> Inversion:
    """Minimise ‖G(z, h) − x‖² / pixels + λ ‖f(G(z, h)) − f(x)‖² / D over z and h, |h| = 1, by Adam.

    Each picture is a problem of its own. The search starts from the best of `candidates` draws of
    z ~ N(0, 1); h starts at the one given, best the picture's own feature, or else is drawn
    too. After each step h is scaled to unit length; the learning rate falls to 0 as a cosine. The
    best point of the whole way is returned; the generator itself stays as it is.

    image: [B, 3, R, R] in [-1, 1]. h: [B, feature_dim]. rng: on the generator's device.
    features: f, such as an image encoder. Raises ValueError for a generator in training mode, whose
    batch norm would mix the pictures, and for pictures of another size.
    """
    if generator.training:
        raise ValueError("inversion needs the generator in evaluation mode: call generator.eval()")
    side = generator.resolution
    if image.shape[1:] != (3, side, side):
        raise ValueError(f"need pictures [B, 3, {side}, {side}], got {list(image.shape)}")
    with torch.no_grad():
        wanted = None if features is None else features(image)

    def loss(z: Tensor, h: Tensor) -> Tensor:  # [B]
        made: Tensor = generator(z, h)
        error = (made - image).square().mean(dim=(1, 2, 3))
        if features is not None and wanted is not None:
            error = error + feature_weight * (features(made) - wanted).square().mean(dim=1)
        return error

    z, h = _best_candidate(generator, loss, h, len(image), candidates, rng)
    best_z, best_h, best = z, h, torch.full((len(image),), torch.inf, device=image.device)
    curve = []
    z, h = z.clone().requires_grad_(), h.clone().requires_grad_()
    optimizer = torch.optim.Adam([z, h], lr=lr)
    for step in range(steps + 1):
        error = loss(z, h)
        better = (error < best)[:, None]
        best = torch.minimum(error.detach(), best)
        best_z = torch.where(better, z.detach(), best_z)
        best_h = torch.where(better, h.detach(), best_h)
        curve.append(error.detach())
        if step == steps:
            break
        # Only z and h get gradients, so the generator's parameters are left alone.
        z.grad, h.grad = torch.autograd.grad(error.sum(), (z, h))
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.step()
        with torch.no_grad():
            h.copy_(unit_norm(h))
    return Inversion(best_z, best_h, torch.stack(curve))


def edited(h: Tensor, source: Tensor, target: Tensor, strength: float) -> Tensor:
    """Return h' = (h + α (z_target − z_source)) / ‖·‖, from one sound's feature towards another's.

    All [..., feature_dim]; both sounds' features are brought to unit norm first.
    """
    return unit_norm(h + strength * (unit_norm(target) - unit_norm(source)))


@torch.no_grad()
def _best_candidate(
    generator: Generator,
    loss: Callable[[Tensor, Tensor], Tensor],
    h: Tensor | None,
    n: int,
    candidates: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return z [n, z_dim] and h [n, feature_dim] of the best draw for each picture."""
    best_z = torch.zeros(n, generator.z_dim, device=rng.device)
    best_h = torch.zeros(n, generator.feature_dim, device=rng.device)
    best = torch.full((n,), torch.inf, device=rng.device)
    for _ in range(max(1, candidates)):
        z = torch.randn(best_z.shape, generator=rng, device=rng.device)
        drawn = torch.randn(best_h.shape, generator=rng, device=rng.device) if h is None else h
        start = unit_norm(drawn)
        error = loss(z, start)
        better = (error < best)[:, None]
        best = torch.minimum(error, best)
        best_z, best_h = torch.where(better, z, best_z), torch.where(better, start, best_h)
    return best_z, best_h
