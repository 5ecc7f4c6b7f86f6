"""The Inception score against closed forms and torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.inception_score import inception_score, inception_score_interval
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
