"""AdaIN's losses against NumPy in float64, from the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.losses.adain import content_loss, moments, style_loss

RNG = np.random.default_rng(0)


def features(*shape: int) -> NDArray[np.float64]:
    return RNG.gamma(2, 1, shape) - 1


def by_hand(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation, ddof 1, of each picture and channel [B, C]."""
    flat = x.reshape(*x.shape[:2], -1)
    return flat.mean(2), np.sqrt(flat.var(2, ddof=1) + 1e-5)


def test_moments() -> None:
    x = features(2, 3, 4, 5)
    mean, std = moments(torch.from_numpy(x))
    assert mean.shape == std.shape == (2, 3, 1, 1)
    np.testing.assert_allclose(mean[..., 0, 0], by_hand(x)[0], rtol=1e-12)
    np.testing.assert_allclose(std[..., 0, 0], by_hand(x)[1], rtol=1e-12)
    flat = moments(torch.full((1, 2, 3, 3), 0.7, dtype=torch.float64))[1]
    np.testing.assert_allclose(flat, np.sqrt(1e-5), rtol=1e-6)
    assert torch.isfinite(moments(torch.ones(1, 2, 1, 1))[1]).all()


def test_style_loss_sums_levels_and_allows_other_sides() -> None:
    made = [features(2, 3, 8, 8), features(2, 6, 4, 4)]
    style = [features(2, 3, 6, 10), features(2, 6, 3, 5)]
    wanted = sum(
        np.mean((by_hand(a)[k] - by_hand(b)[k]) ** 2)
        for a, b in zip(made, style, strict=True)
        for k in (0, 1)
    )
    found = style_loss(*([torch.from_numpy(x) for x in own] for own in (made, style)))
    assert float(found) == pytest.approx(wanted, rel=1e-10)
    same = [torch.from_numpy(x) for x in made]
    assert float(style_loss(same, same)) == 0
    # Where things are does not matter: turned round, every level has the same style.
    assert float(style_loss(same, [x.flip(2, 3) for x in same])) == pytest.approx(0, abs=1e-20)


def test_style_loss_of_brightness_and_contrast() -> None:
    """y = 3 x + 2: means differ by 2 + 2 μ, deviations by twice the deviation (ε aside)."""
    x = torch.from_numpy(features(1, 1, 50, 50))
    mean, std = float(x.mean()), float(x.std())
    wanted = (2 + 2 * mean) ** 2 + (2 * std) ** 2
    assert float(style_loss([3 * x + 2], [x])) == pytest.approx(wanted, rel=1e-4)


def test_content_loss() -> None:
    a, b = features(2, 3, 4, 4), features(2, 3, 4, 4)
    found = content_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert float(found) == pytest.approx(((a - b) ** 2).mean(), rel=1e-12)


def test_gradients_of_flat_features_are_finite() -> None:
    x = torch.zeros(1, 2, 4, 4, requires_grad=True)
    style_loss([x], [torch.ones(1, 2, 4, 4)]).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
