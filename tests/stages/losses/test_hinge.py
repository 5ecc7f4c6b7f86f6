"""Hinge losses by hand, and what they push."""

from __future__ import annotations

import pytest
import torch

from stages.losses.hinge import discriminator_hinge, generator_hinge


def test_values_by_hand() -> None:
    real = torch.tensor([2.0, 0.5, -1.0])  # costs 0, 0.5, 2
    fake = torch.tensor([-3.0, 0.0, 1.0])  # costs 0, 1, 2
    assert discriminator_hinge(real, fake).item() == pytest.approx(2.5 / 3 + 3 / 3)
    assert generator_hinge(fake).item() == pytest.approx(2 / 3)
    assert discriminator_hinge(torch.zeros(4), torch.zeros(4)).item() == 2


def test_only_scores_within_the_margin_are_pushed() -> None:
    real = torch.tensor([2.0, 0.5], requires_grad=True)
    fake = torch.tensor([-2.0, 0.5], requires_grad=True)
    discriminator_hinge(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [0, -0.5]
    assert fake.grad.tolist() == [0, 0.5]
