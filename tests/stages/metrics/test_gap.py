"""The modality gap on spaces whose gap is known."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.gap import modality_gap, unit


def test_identity_of_gap_and_alignment() -> None:
    """E‖g‖² = 2 − 2 E[z_V · z_A] for any unit vectors."""
    rng = np.random.default_rng(0)
    v, a = rng.normal(size=(500, 16)), rng.normal(size=(500, 16)) + 0.3
    g = unit(v) - unit(a)
    gap = modality_gap(v, a)
    assert (g**2).sum(axis=1).mean() == pytest.approx(2 - 2 * gap.alignment.value, abs=1e-12)
    assert gap.magnitude.value**2 <= 2 - 2 * gap.alignment.value  # Jensen
    assert gap.mean_gap <= gap.magnitude.value


def test_one_space_has_no_gap() -> None:
    v = np.random.default_rng(1).normal(size=(50, 8))
    gap = modality_gap(v, 7 * v)
    assert gap.magnitude.value == pytest.approx(0, abs=1e-12)
    assert gap.alignment.value == pytest.approx(1)


def test_opposite_poles() -> None:
    v = np.tile([1.0, 0.0], (5, 1))
    gap = modality_gap(v, -v)
    assert gap.magnitude.value == gap.mean_gap == 2
    assert gap.alignment.value == -1
    assert gap.centre_image == pytest.approx(0)


def test_a_constant_orthogonal_gap_by_hand() -> None:
    """v on a circle in the first two axes, lifted along the third by ±h: g = (0, 0, 2h)."""
    angle = np.arange(12) * 2 * np.pi / 12
    h = 0.6
    circle = 0.8 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    gap = modality_gap(circle + np.array([0, 0, h]), circle - np.array([0, 0, h]))
    assert gap.magnitude.value == pytest.approx(2 * h)
    assert gap.mean_gap == pytest.approx(2 * h)
    assert gap.alignment.value == pytest.approx(0.8**2 - h**2)
    assert gap.orthogonality_image.value == pytest.approx(0, abs=1e-12)
    assert gap.orthogonality_audio.value == pytest.approx(0, abs=1e-12)
    assert gap.centre_image == pytest.approx(0, abs=1e-12)


def test_the_centre_is_what_the_gap_does_not_explain() -> None:
    """Both modalities share an offset of 0.8 across the gap: that is the centre."""
    v, a = np.tile([0.8, 0.6], (4, 1)), np.tile([0.8, -0.6], (4, 1))
    gap = modality_gap(v, a)
    assert gap.centre_image == pytest.approx(0.8)
    assert gap.centre_audio == pytest.approx(0.8)


def test_intervals_hold_their_values_and_know_clusters() -> None:
    rng = np.random.default_rng(2)
    centre = np.repeat(rng.normal(size=(20, 6)), 5, axis=0)
    v, a = centre + 0.1 * rng.normal(size=(100, 6)), centre + 0.5
    videos = np.repeat(np.arange(20), 5)
    alone, clustered = modality_gap(v, a), modality_gap(v, a, clusters=videos)
    for name in ("magnitude", "alignment", "orthogonality_image"):
        one, many = getattr(alone, name), getattr(clustered, name)
        assert one.value == many.value
        assert many.low < many.value < many.high
        assert many.high - many.low > one.high - one.low


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="row 1"):
        unit([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="row 0"):
        unit([[np.nan, 0.0]])
    with pytest.raises(ValueError, match="one shape"):
        modality_gap(np.ones((2, 3)), np.ones((3, 3)))
