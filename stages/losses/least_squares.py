"""The losses of adversarial training by least squares (Mao et al., Least Squares Generative
Adversarial Networks, ICCV 2017), with 1 for real and 0 for fake."""

from __future__ import annotations

from torch import Tensor


def discriminator_least_squares(real: Tensor, *fakes: Tensor) -> Tensor:
    """Return ½ (E[(D(x) − 1)²] + E[D(G(z))²]) of scores of any shape.

    Several kinds of fakes share their half: the second term is the mean of theirs.
    """
    fake = sum((scores.square().mean() for scores in fakes[1:]), fakes[0].square().mean())
    return ((real - 1).square().mean() + fake / len(fakes)) / 2


def generator_least_squares(fake: Tensor) -> Tensor:
    """Return E[(D(G(z)) − 1)²] of scores of any shape."""
    return (fake - 1).square().mean()
