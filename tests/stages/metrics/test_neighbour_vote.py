"""Votes of nearest neighbours against loops and values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.neighbour_vote import neighbour_votes


def test_by_hand() -> None:
    # Cosines of the query to the three: 1, 0 and 0.6.
    features = [[2.0, 0.0], [0.0, 1.0], [3.0, 4.0]]
    scores = neighbour_votes([[5.0, 0.0]], features, np.eye(3), k=2, temperature=0.5)
    np.testing.assert_allclose(scores, [[np.exp(2), 0, np.exp(1.2)]])


def test_equals_loops() -> None:
    rng = np.random.default_rng(0)
    queries, features = rng.normal(size=(2050, 5)), rng.normal(size=(40, 5))
    targets = rng.dirichlet(np.ones(3), 40)
    found = neighbour_votes(queries, features, targets, k=7, temperature=0.1)
    for row in (0, 1023, 1024, 2049):
        q = queries[row] / np.linalg.norm(queries[row])
        cosines = [q @ x / np.linalg.norm(x) for x in features]
        nearest = sorted(range(40), key=lambda n: -cosines[n])[:7]
        wanted = sum(np.exp(cosines[n] / 0.1) * targets[n] for n in nearest)
        np.testing.assert_allclose(found[row], wanted)


def test_more_neighbours_than_there_are() -> None:
    scores = neighbour_votes([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], np.eye(2), k=20)
    np.testing.assert_allclose(scores, [[np.exp(1 / 0.07), 1.0]])


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"queries \[Q, D\]"):
        neighbour_votes(np.ones((2, 3)), np.ones((4, 3)), np.ones((5, 2)))
