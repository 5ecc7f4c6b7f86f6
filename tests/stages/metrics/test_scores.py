"""The Inception score and KID against closed forms and torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.inception_score import inception_score, inception_score_interval
from stages.metrics.kernel_distance import kid, squared_mmd
from tests.stages.metrics.peers import torch_fidelity_module


def test_sharp_and_varied_predictions_score_the_number_of_classes() -> None:
    logits = 1e4 * np.eye(8)[np.arange(80) % 8]
    assert inception_score(logits, 1)[0] == pytest.approx(8)
    assert inception_score(logits, 10, seed=None) == pytest.approx((8, 0))


def test_one_prediction_for_all_scores_one() -> None:
    logits = np.tile(np.random.default_rng(0).normal(size=20), (50, 1))
    assert inception_score(logits) == pytest.approx((1, 0))


def test_two_images_by_hand() -> None:
    """p = (.9, .1) and (.1, .9): KL to (.5, .5) is .9 ln 1.8 + .1 ln .2 for both."""
    logits = np.log([[0.9, 0.1], [0.1, 0.9]])
    expected = np.exp(0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    assert inception_score(logits, 1)[0] == pytest.approx(expected)


def test_torch_fidelity_agrees_on_the_score() -> None:
    peer = torch_fidelity_module("metric_isc")
    import torch

    logits = np.random.default_rng(1).normal(size=(101, 30)) * 3
    theirs = peer.isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    mean, std = inception_score(logits, 10, seed=None)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-7)


def test_shuffling_saves_a_set_sorted_by_class() -> None:
    logits = 1e4 * np.eye(10)[np.repeat(np.arange(10), 100)]
    assert inception_score(logits, 10, seed=None)[0] == pytest.approx(1)
    assert inception_score(logits, 10)[0] > 9


def test_the_score_has_an_interval() -> None:
    logits = np.random.default_rng(2).normal(size=(200, 10)) * 2
    interval = inception_score_interval(logits)
    assert interval.value == pytest.approx(inception_score(logits, 1)[0])
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize("n", [40, 400])
def test_the_interval_has_the_width_of_fresh_samples(n: int) -> None:
    rng = np.random.default_rng(5)
    drawn = [
        inception_score_interval(rng.normal(size=(n, 10)) * 2 + np.arange(10) / 5, seed=i)
        for i in range(200)
    ]
    expected = np.subtract(*np.quantile([i.value for i in drawn], [0.975, 0.025]))
    assert np.mean([i.high - i.low for i in drawn]) == pytest.approx(expected, rel=0.2)


def test_bad_logits() -> None:
    with pytest.raises(ValueError, match="splits"):
        inception_score(np.zeros((5, 3)), 10)
    with pytest.raises(ValueError, match="finite"):
        inception_score(np.full((20, 3), np.inf))


def test_torch_fidelity_agrees_on_the_kernel_distance() -> None:
    peer = torch_fidelity_module("metric_kid")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 12)), rng.normal(size=(60, 12)) + 0.4
    theirs = peer.kernel_mmd(
        x, y, kid_kernel="poly", kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1.0,
    )  # fmt: skip
    assert squared_mmd(x, y) == pytest.approx(float(theirs), rel=1e-9)
    assert kid(x, y, subsets=3) == pytest.approx((float(theirs), 0.0), rel=1e-9, abs=1e-12)


def test_the_kernel_distance_of_one_distribution_is_zero_on_average() -> None:
    rng = np.random.default_rng(4)
    values = [squared_mmd(rng.normal(size=(40, 6)), rng.normal(size=(25, 6))) for _ in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_kid_by_its_definition() -> None:
    """Three loops over pairs, D = 1."""
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0], [1.0]])

    def k(a: float, b: float) -> float:
        return (a * b + 1) ** 3

    within_x = k(1, 2)
    within_y = (k(0, 3) + k(0, 1) + k(3, 1)) / 3
    across = sum(k(a, b) for a in (1, 2) for b in (0, 3, 1)) / 6
    assert squared_mmd(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_kid_refuses_other_dimensions() -> None:
    with pytest.raises(ValueError, match="features must be"):
        kid(np.ones((3, 2)), np.ones((3, 3)))
