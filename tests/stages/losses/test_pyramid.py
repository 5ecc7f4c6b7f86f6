"""Differences at several scales against numpy's, and their gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.losses.pyramid import pyramid_l1


def pictures(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 8, 8, generator=rng, dtype=torch.float64)


def test_is_the_sum_over_scales_of_mean_differences() -> None:
    a, b = pictures(0), pictures(1)
    difference = (a - b).numpy()
    wanted = 0.0
    for factor in (1, 4, 8):  # 16 is larger than the pictures, whose means are compared then
        side = 8 // factor
        squares = difference.reshape(2, 3, side, factor, side, factor)
        wanted += float(np.abs(squares.mean(axis=(3, 5))).mean())
    assert float(pyramid_l1(a, b, (1, 4, 16))) == pytest.approx(wanted)


def test_what_differs_in_detail_alone_is_equal_at_coarse_scales() -> None:
    a = torch.zeros(1, 1, 4, 4)
    b = a + torch.tensor([1.0, -1.0]).repeat(2)  # stripes of mean 0
    assert float(pyramid_l1(a, b, (2, 4))) == 0
    assert float(pyramid_l1(a, b, (1, 2))) == pytest.approx(1)


def test_gradient() -> None:
    b = pictures(1)
    assert torch.autograd.gradcheck(
        lambda a: pyramid_l1(a, b, (1, 4)), pictures(0).requires_grad_()
    )
