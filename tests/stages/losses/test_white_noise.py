"""The autocorrelation of noise against sums by hand, and on what is white and what is not."""

from __future__ import annotations

import numpy as np
import torch

from stages.losses.white_noise import autocorrelation


def test_by_hand() -> None:
    maps = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    expected = []
    for x in maps[:, 0].numpy():
        small = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 2
        scales = (x, small)
        expected.append(
            sum((y * np.roll(y, 1, axis)).mean() ** 2 for y in scales for axis in (0, 1))
        )
    np.testing.assert_allclose(autocorrelation(maps), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(autocorrelation, maps[:1].requires_grad_())


def test_white_noise_has_none_and_pictures_have_much() -> None:
    white = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(1))
    assert autocorrelation(white) < 0.1  # of 64 places at 8 px, about 2 / 64
    ramp = torch.linspace(-1, 1, 256).expand(1, 1, 256, 256)
    assert autocorrelation(ramp / ramp.std()) > 1
    # Of ones: each mean is 1 at 16 px, and 4 at 8 px, where means are doubled.
    torch.testing.assert_close(autocorrelation(torch.ones(2, 1, 16, 16)), torch.full((2,), 34.0))
    assert autocorrelation(torch.ones(1, 1, 4, 4)) == 2
