"""The L2 ablation against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.losses.latent import l2


def test_l2_of_known_vectors() -> None:
    z_A = torch.tensor([[0.0, 3.0], [1.0, 1.0]])
    z_V = torch.tensor([[4.0, 0.0], [1.0, 1.0]])
    assert l2(z_A, z_V).item() == (16 + 9) / 4
    assert l2(z_A, z_V, "norm").item() == 5 / 2


def test_l2_equals_numpy_and_sees_lengths() -> None:
    rng = np.random.default_rng(0)
    a, v = rng.normal(size=(2, 5, 7))
    z_A, z_V = torch.from_numpy(a), torch.from_numpy(v)
    assert l2(z_A, z_V).item() == pytest.approx(np.mean((a - v) ** 2))
    norms = np.sqrt(((a - v) ** 2).sum(axis=1))
    assert l2(z_A, z_V, "norm").item() == pytest.approx(norms.mean())
    assert l2(2 * z_A, 2 * z_V).item() == pytest.approx(4 * np.mean((a - v) ** 2))


def test_norm_has_a_finite_gradient_at_zero() -> None:
    z_A = torch.ones(2, 3, requires_grad=True)
    l2(z_A, torch.ones(2, 3), "norm").backward()
    assert z_A.grad is not None
    assert torch.isfinite(z_A.grad).all()


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="mse or norm"):
        l2(torch.ones(1, 1), torch.ones(1, 1), "l1")
