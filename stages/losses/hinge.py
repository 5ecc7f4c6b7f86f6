"""The hinge losses of adversarial training (Lim & Ye, Geometric GAN, 2017)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))] of scores of any shape."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Return −E[D(G(z))] of scores of any shape."""
    return -fake.mean()
