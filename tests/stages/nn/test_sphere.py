"""Paths on the sphere, against their angles in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.nn.sphere import Way, angle_rad, interpolated

THETA = 1.1


@pytest.fixture
def ends() -> tuple[Tensor, Tensor]:
    """Two unit vectors [8] at an angle of THETA."""
    basis = torch.linalg.qr(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))[0].T
    return basis[0], math.cos(THETA) * basis[0] + math.sin(THETA) * basis[1]


@pytest.mark.parametrize("t", [0.1, 0.3, 0.5, 0.9])
def test_angles(ends: tuple[Tensor, Tensor], t: float) -> None:
    angles = {"slerp": t * THETA}
    angles["lerp"] = math.atan2(t * math.sin(THETA), 1 - t + t * math.cos(THETA))
    for way, angle in angles.items():
        h = interpolated(*ends, t, "lerp" if way == "lerp" else "slerp")
        assert float(h.norm()) == pytest.approx(1, abs=1e-6)
        assert angle_rad(ends[0], h) == pytest.approx(angle, abs=1e-5)
        assert angle_rad(h, ends[1]) == pytest.approx(THETA - angle, abs=1e-5)


@pytest.mark.parametrize("way", ["lerp", "slerp"])
def test_ends_are_kept_to_the_bit(ends: tuple[Tensor, Tensor], way: Way) -> None:
    assert torch.equal(interpolated(*ends, 0.0, way), ends[0])
    assert torch.equal(interpolated(*ends, 1.0, way), ends[1])


def test_both_ways_meet_in_the_middle(ends: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(interpolated(*ends, 0.5, "lerp"), interpolated(*ends, 0.5, "slerp"))


@pytest.mark.parametrize("way", ["lerp", "slerp"])
def test_between_equal_features_there_is_nowhere_to_go(
    ends: tuple[Tensor, Tensor], way: Way
) -> None:
    torch.testing.assert_close(interpolated(ends[0], ends[0], 0.3, way), ends[0])


def test_small_and_right_angles() -> None:
    a = torch.tensor([1.0, 0.0])
    assert angle_rad(a, torch.tensor([1.0, 1e-6])) == pytest.approx(1e-6, rel=1e-4)
    assert angle_rad(a, torch.tensor([0.0, 3.0])) == pytest.approx(math.pi / 2)


def test_errors(ends: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        interpolated(*ends, 1.5)
    with pytest.raises(ValueError, match="opposite"):
        interpolated(ends[0], -ends[0], 0.5)
