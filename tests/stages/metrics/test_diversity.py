"""How much pictures differ, against a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.diversity import spread


def test_two_pictures_lie_their_distance_over_root_two_apart() -> None:
    """Var of {a, b} is (a − b)² / 2, unbiased."""
    black, grey = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 51, np.uint8)
    assert spread(np.stack([black, grey])) == pytest.approx(0.2 / np.sqrt(2))
    assert spread(np.stack([grey, grey, grey])) == pytest.approx(0, abs=1e-12)


def test_it_does_not_grow_with_the_number_of_pictures() -> None:
    rng = np.random.default_rng(0)
    pictures = np.uint8(np.clip(rng.normal(128, 20, (64, 40, 40, 3)).round(), 0, 255))
    expected = 20 / 255
    for n in (2, 4, 64):
        assert spread(pictures[:n]) == pytest.approx(expected, rel=0.02)


def test_one_picture_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two pictures or more, got 1"):
        spread(np.zeros((1, 4, 4, 3), np.uint8))
