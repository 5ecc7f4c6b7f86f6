"""The non-saturating logistic loss of a GAN (Goodfellow et al., Generative Adversarial Nets, 2014).

L_D = mean softplus(D(fake)) + mean softplus(-D(real))        L_G = mean softplus(-D(fake))
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_logistic(real: Tensor, fake: Tensor) -> Tensor:
    """Return L_D of scores of any shape."""
    return softplus(fake.float()).mean() + softplus(-real.float()).mean()


def generator_logistic(fake: Tensor) -> Tensor:
    """Return L_G of scores of any shape."""
    return softplus(-fake.float()).mean()
