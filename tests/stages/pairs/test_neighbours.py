"""Nearest neighbours against SciPy's k-d tree and a plain distance matrix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from stages.pairs import neighbours


def features(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that do not divide the rows, so that merging them matters."""
    monkeypatch.setattr(neighbours, "QUERY_ROWS", 7)
    monkeypatch.setattr(neighbours, "INDEX_ROWS", 11)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 5, 40, 100])
def test_nearest_agrees_with_a_kd_tree(k: int) -> None:
    index, queries = features(100, 6), features(33, 6, seed=1)
    distances, rows = cKDTree(index).query(queries, k=np.arange(1, k + 1))
    ours, our_distances = neighbours.nearest(queries, index, k)
    np.testing.assert_array_equal(ours, rows)
    np.testing.assert_allclose(our_distances, distances, rtol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_neighbourhoods_leave_out_the_row_itself() -> None:
    index = features(60, 8)
    matrix = cdist(index.astype(np.float64), index.astype(np.float64))
    np.fill_diagonal(matrix, np.inf)
    np.testing.assert_array_equal(neighbours.neighbourhoods(index, 9), matrix.argsort(1)[:, :9])


def test_small_differences_far_from_the_origin_are_seen() -> None:
    # Without a centre, ‖q‖² + ‖x‖² − 2⟨q, x⟩ is nothing but rounding here in float32.
    index = features(300, 3) + np.float32(5000)
    rows, _ = neighbours.nearest(index[:20], index, 3)
    matrix = cdist(index[:20].astype(np.float64), index.astype(np.float64))
    np.testing.assert_array_equal(rows, matrix.argsort(1)[:, :3])


def test_duplicates_are_neighbours_in_the_order_of_rows() -> None:
    index = features(12, 4)
    index[[3, 7, 9]] = index[5]
    found = neighbours.neighbourhoods(index, 3)
    assert found[5].tolist() == [3, 7, 9]
    assert found[7].tolist() == [3, 5, 9]


@pytest.mark.usefixtures("small_blocks")
def test_more_duplicates_than_neighbours_never_name_the_row_itself() -> None:
    index = np.zeros((50, 4), np.float32)
    found = neighbours.neighbourhoods(index, 3)
    assert found.shape == (50, 3)
    assert not (found == np.arange(50)[:, None]).any()
    assert all(len(set(row)) == 3 for row in found.tolist())


def test_a_memory_map_is_an_index(tmp_path) -> None:
    index = features(200, 5)
    np.save(tmp_path / "features.npy", index)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        neighbours.neighbourhoods(mapped, 4), neighbours.neighbourhoods(index, 4)
    )


@pytest.mark.parametrize("k", [0, 5])
def test_k_out_of_range_is_explained(k: int) -> None:
    with pytest.raises(ValueError, match="k must be from 1 to 4"):
        neighbours.neighbourhoods(features(5, 2), k)
