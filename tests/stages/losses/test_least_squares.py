"""Least squares by hand, and what they push."""

from __future__ import annotations

import pytest
import torch

from stages.losses.least_squares import discriminator_least_squares, generator_least_squares


def test_values_by_hand() -> None:
    real = torch.tensor([[2.0, 0.5], [1.0, 0.0]])  # 1, 0.25, 0, 1
    fake = torch.tensor([-1.0, 0.0, 2.0])  # 1, 0, 4; and for the generator 4, 1, 1
    assert discriminator_least_squares(real, fake).item() == pytest.approx((2.25 / 4 + 5 / 3) / 2)
    assert generator_least_squares(fake).item() == pytest.approx(2)
    # A discriminator that cannot tell says ½ for all.
    unsure = torch.full((3, 1, 4, 4), 0.5)
    assert discriminator_least_squares(unsure, unsure).item() == 0.25
    assert generator_least_squares(unsure).item() == 0.25


def test_kinds_of_fakes_share_their_half() -> None:
    real, one, two = torch.ones(2), torch.tensor([2.0]), torch.tensor([0.0, 1.0, 1.0])
    expected = (0 + (4 + 2 / 3) / 2) / 2
    assert discriminator_least_squares(real, one, two).item() == pytest.approx(expected)


def test_gradients() -> None:
    real = torch.tensor([0.5, 1.0], requires_grad=True)
    fake = torch.tensor([0.5, -1.0], requires_grad=True)
    discriminator_least_squares(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [-0.25, 0]
    assert fake.grad.tolist() == [0.25, -0.5]
    fake.grad = None
    generator_least_squares(fake).backward()
    assert fake.grad is not None
    assert fake.grad.tolist() == [-0.5, -2]
