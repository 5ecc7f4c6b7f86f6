"""The logistic loss, R1 and path length against closed forms, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from stages.losses.gradient_penalties import path_length_penalty, path_lengths, r1
from stages.losses.logistic import discriminator_logistic, generator_logistic


def test_logistic_is_the_cross_entropy_of_the_scores() -> None:
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, 40.0])

    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x)) if x > -30 else x

    wanted = (
        -sum(log_sigmoid(float(x)) for x in real) / 2
        - sum(log_sigmoid(-float(x)) for x in fake) / 2
    )
    assert float(discriminator_logistic(real, fake)) == pytest.approx(wanted, rel=1e-6)
    assert float(generator_logistic(fake)) == pytest.approx(
        -sum(log_sigmoid(float(x)) for x in fake) / 2, rel=1e-6
    )


def test_r1_of_a_quadratic_and_its_gradient() -> None:
    """Scores a |x|² have the gradient 2 a x: R1 = 4 a² mean |x|², with the slope 8 a mean |x|²."""
    x = torch.tensor([[1.0, 2.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    penalty = r1(a * x.square().sum(dim=1), x)
    assert float(penalty) == pytest.approx(4 * 0.25 * (5 + 9) / 2)
    penalty.backward()
    assert a.grad is not None
    assert float(a.grad) == pytest.approx(8 * 0.5 * 7)


def test_path_lengths_of_a_linear_map() -> None:
    """Pictures M w have Jᵀ y = Mᵀ y, for each of the L latents its own M."""
    rng = torch.Generator().manual_seed(0)
    m = torch.randn(3, 2 * 4 * 5, 6, generator=rng, dtype=torch.float64)  # [L, pixels, W]
    ws = torch.randn(2, 3, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    pictures = torch.einsum("lpw,blw->bp", m, ws).reshape(2, 2, 4, 5)
    noise = torch.randn(2, 2, 4, 5, generator=rng, dtype=torch.float64)
    found = path_lengths(pictures, ws, noise)
    for b in range(2):
        y = noise[b].flatten() / math.sqrt(20)
        squares = [float((m[layer].T @ y).square().sum()) for layer in range(3)]
        assert float(found[b]) == pytest.approx(math.sqrt(sum(squares) / 3), rel=1e-6)
    mean = torch.tensor(1.0)
    wanted = sum((float(length) - 1) ** 2 for length in found) / 2
    assert float(path_length_penalty(found, mean)) == pytest.approx(wanted)
