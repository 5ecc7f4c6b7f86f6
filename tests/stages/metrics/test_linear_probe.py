"""The probe against scikit-learn, autograd and a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.linear_probe import LinearProbe
from stages.metrics.retrieval import recall_at_k


def blobs(seed: int, n: int = 240, dim: int = 6, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim)) * 1.5
    labels = np.arange(n) % classes
    return centres[labels] + rng.normal(size=(n, dim)), labels


def test_scikit_learn_finds_the_same_probe() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = blobs(0)
    probe = LinearProbe.fit(x, y, 4, weight_decay=0.01)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    peer = linear_model.LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10, max_iter=5000)
    peer.fit(scaled, y)
    np.testing.assert_allclose(
        np.exp(probe.log_probabilities(x)), peer.predict_proba(scaled), atol=1e-5
    )


def test_autograd_sees_a_stationary_point() -> None:
    torch = pytest.importorskip("torch")
    x, y = blobs(1)
    probe = LinearProbe.fit(x, y, 4, weight_decay=0.1)
    weight = torch.tensor(probe.weight, requires_grad=True)
    bias = torch.tensor(probe.bias, requires_grad=True)
    scaled = torch.from_numpy((x - x.mean(axis=0)) / x.std(axis=0))
    loss = torch.nn.functional.cross_entropy(scaled @ weight + bias, torch.from_numpy(y))
    (loss + 0.05 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-6
    assert bias.grad.abs().max() < 1e-6


def test_features_that_say_nothing_give_the_class_frequencies() -> None:
    """The optimum of a bias alone is the log of the shares."""
    probe = LinearProbe.fit(np.full((10, 3), 7.0), [0] * 6 + [1] * 3 + [2], 3)
    np.testing.assert_allclose(
        np.exp(probe.log_probabilities(np.full((1, 3), 7.0))), [[0.6, 0.3, 0.1]], atol=1e-6
    )


def test_scale_and_offset_of_the_features_do_not_matter() -> None:
    x, y = blobs(2)
    plain, moved = LinearProbe.fit(x, y, 4), LinearProbe.fit(1000 * x - 5e4, y, 4)
    np.testing.assert_allclose(
        plain.log_probabilities(x), moved.log_probabilities(1000 * x - 5e4), atol=1e-4
    )


def test_it_generalises_and_serves_as_a_similarity() -> None:
    x, y = blobs(3)
    probe = LinearProbe.fit(x, y, 4)
    unseen, labels = blobs(4)
    recall = recall_at_k(probe.log_probabilities(unseen), labels, (1, 4))
    assert recall[1].low > 3 * 0.25
    assert recall[4].value == 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"no training example of class \[1\]"):
        LinearProbe.fit(np.ones((3, 2)), [0, 2, 0], 3)
    with pytest.raises(ValueError, match="2 classes"):
        LinearProbe.fit(np.ones((3, 2)), [0, 0, 0], 1)
    with pytest.raises(ValueError, match="labels must be"):
        LinearProbe.fit(np.ones((3, 2)), [0, 1, 5], 2)
    with pytest.raises(ValueError, match="finite"):
        LinearProbe.fit(np.full((2, 2), np.nan), [0, 1], 2)
    probe = LinearProbe.fit(np.eye(2), [0, 1], 2)
    with pytest.raises(ValueError, match=r"\[N, 2\]"):
        probe.log_probabilities(np.ones((1, 3)))
