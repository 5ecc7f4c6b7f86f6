"""Edges and ranks against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from numpy.typing import NDArray

from stages.metrics.rank import rank_correlation
from stages.metrics.structure import edge_correlation, edges


def step(side: int, at: int, *, down: bool = False) -> NDArray[np.uint8]:
    """Return a grey picture, dark before `at` and 100 from it on."""
    grey = np.zeros((side, side), np.uint8)
    grey[:, at:] = 100
    return np.repeat((grey.T if down else grey)[:, :, None], 3, axis=2)


def noise(seed: int, side: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_a_step_has_its_edge_where_it_is() -> None:
    """Sobel's answer to a step of 100 is 4 · 100 in the two columns beside it."""
    found = edges(step(8, 4))
    assert found.shape == (6, 6)
    np.testing.assert_allclose(found[:, [2, 3]], 400)
    assert found[:, [0, 1, 4, 5]].max() == 0


def test_edges_are_scipys() -> None:
    picture = noise(0)
    grey = picture @ np.array([0.299, 0.587, 0.114])
    x, y = (scipy.ndimage.sobel(grey, axis=axis)[1:-1, 1:-1] for axis in (1, 0))
    np.testing.assert_allclose(edges(picture), np.sqrt(x**2 + y**2))


def test_correlation_is_numpys() -> None:
    one, other = noise(1), noise(2)
    peer = np.corrcoef(edges(one).ravel(), edges(other).ravel())[0, 1]
    assert edge_correlation(one, other) == pytest.approx(peer)


def test_light_and_contrast_do_not_count() -> None:
    picture = noise(3) // 4
    assert edge_correlation(picture, picture) == pytest.approx(1)
    assert edge_correlation(picture, picture * 3 + 40) == pytest.approx(1)
    assert edge_correlation(picture, 255 - picture) == pytest.approx(1)


def test_crossing_edges_correlate_as_counted() -> None:
    """Edges of 2 of n columns and of 2 of n rows: the shares are independent, so r = 0; of the
    same 2 columns but one, r follows from the counts."""
    assert edge_correlation(step(12, 5), step(12, 5, down=True)) == pytest.approx(0, abs=1e-12)
    share, common = 2 / 10, 1 / 10  # of 10 columns: 2 each, 1 of them in both
    r = (common - share**2) / (share - share**2)
    assert edge_correlation(step(12, 5), step(12, 6)) == pytest.approx(r)


def test_a_plain_picture_kept_nothing() -> None:
    plain = np.full((24, 24, 3), 90, np.uint8)
    assert edge_correlation(noise(4), plain) == 0
    assert edge_correlation(plain, plain) == 0


def test_sizes_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="one size"):
        edge_correlation(noise(0, 8), noise(0, 9))
    with pytest.raises(ValueError, match="3 pixels or more"):
        edges(noise(0, 2))


def test_ranks_without_ties_are_spearmans_formula() -> None:
    values = np.array([[3.0, 9.0, 1.0, 27.0, 81.0]])  # ranks 2, 3, 1, 4, 5 against 1 … 5
    d = np.array([1, 1, 2, 0, 0])
    wanted = 1 - 6 * (d**2).sum() / (5 * (25 - 1))
    np.testing.assert_allclose(rank_correlation([0.1, 0.2, 1, 3, 4], values), wanted)


def test_ranks_with_ties_are_scipys() -> None:
    values = np.random.default_rng(5).integers(0, 3, (20, 6)).astype(float)
    values[0], values[1] = np.arange(6), -np.arange(6)
    order = [1, 2, 2, 3, 5, 8]
    found = rank_correlation(order, values)
    for row, own in zip(values, found, strict=True):
        assert own == pytest.approx(scipy.stats.spearmanr(order, row).statistic)


def test_what_does_not_change_has_no_order() -> None:
    assert rank_correlation([1, 2, 3], np.ones((2, 3))).tolist() == [0, 0]
    with pytest.raises(ValueError, match="two different values"):
        rank_correlation([1, 1], np.ones((2, 2)))
    with pytest.raises(ValueError, match="no rank"):
        rank_correlation([1, 2], [[0.0, np.nan]])
