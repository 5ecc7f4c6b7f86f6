"""The Fréchet distance: closed forms, SciPy's matrix root, torch-fidelity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from stages.metrics.bootstrap import Interval
from stages.metrics.frechet import (
    Gaussian,
    Reference,
    factor,
    fid,
    fid_interval,
    frechet_distance,
)
from tests.stages.metrics.peers import torch_fidelity_module


def spd(rng: np.random.Generator, dim: int) -> np.ndarray:
    a = rng.normal(size=(dim, dim))
    return a @ a.T / dim


def test_one_dimension_in_closed_form() -> None:
    """N(1, 2²) and N(4, 5²): (1 − 4)² + (2 − 5)²."""
    assert frechet_distance([1.0], [[4.0]], [4.0], [[25.0]]) == pytest.approx(18.0)


def test_covariances_that_commute_in_closed_form() -> None:
    """With common axes: ‖μ₁ − μ₂‖² + Σ (σ₁ − σ₂)², in any rotation."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    s1, s2 = rng.random(6) * 3, rng.random(6) * 3
    m1, m2 = rng.normal(size=6), rng.normal(size=6)
    distance = frechet_distance(m1, (axes * s1**2) @ axes.T, m2, (axes * s2**2) @ axes.T)
    assert distance == pytest.approx(((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum())


def test_scipys_matrix_root_agrees() -> None:
    rng = np.random.default_rng(1)
    s1, s2, m1, m2 = spd(rng, 12), spd(rng, 12), rng.normal(size=12), rng.normal(size=12)
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(m1, s1, m2, s2) == pytest.approx(expected, rel=1e-9)


def test_torch_fidelity_agrees() -> None:
    peer = torch_fidelity_module("metric_fid")
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(300, 20)), rng.gamma(2, size=(200, 20))
    stats = [{"mu": f.mean(axis=0), "sigma": np.cov(f, rowvar=False)} for f in (x, y)]
    theirs = peer.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert fid(x, y) == pytest.approx(theirs, rel=1e-8)


def test_fewer_images_than_dimensions_stay_finite_and_exact() -> None:
    """Where SciPy's root of a singular product fails, a set still has distance 0 to itself."""
    x = np.random.default_rng(3).normal(size=(10, 64)).astype(np.float32)
    assert fid(x, x) == pytest.approx(0, abs=1e-10)
    half = factor(Gaussian.of(x).covariance)
    assert half.shape == (64, 9)  # ten points span nine dimensions
    np.testing.assert_allclose(half @ half.T, np.cov(x, rowvar=False), atol=1e-6)
    assert fid(x, x + 2.0) == pytest.approx(64 * 4, rel=1e-6)


def test_moments_are_numpys_whatever_the_batches() -> None:
    x = np.random.default_rng(4).normal(size=(101, 7)) + 1e6  # cancels without a stable update
    moments = Gaussian(7)
    for batch in np.array_split(x, 9):
        moments.update(batch)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-7, atol=1e-8)
    assert moments.count == 101


def test_moments_of_two_processes_merge() -> None:
    x = np.random.default_rng(5).normal(size=(60, 4))
    left, right, empty = Gaussian.of(x[:13]), Gaussian.of(x[13:]), Gaussian(4)
    left.merge(right)
    left.merge(empty)
    empty.merge(left)
    for merged in (left, empty):
        np.testing.assert_allclose(merged.covariance, np.cov(x, rowvar=False))


@pytest.mark.parametrize("n", [30, 200])  # below and above the dimension
@pytest.mark.parametrize("n_real", [25, 2000])
def test_the_interval(n: int, n_real: int) -> None:
    rng = np.random.default_rng(6)
    real = rng.normal(size=(n_real, 40))
    x = rng.normal(size=(n, 40)) * 1.3 + 0.2
    interval = fid_interval(x, Reference.of(real))
    assert interval.value == pytest.approx(fid(x, real), rel=1e-7)
    assert interval.low < interval.value < interval.high
    assert interval == fid_interval(x, Reference.of(real))


@pytest.mark.parametrize("n", [15, 60])  # below and above the dimension
def test_the_influence_is_the_derivative_by_the_weights(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By finite differences of the distance with one image weighted a little more than the rest."""
    rng = np.random.default_rng(8)
    real = rng.normal(size=(300, 20)) * np.linspace(0.2, 1, 20)
    x = rng.normal(size=(n, 20)) * 0.8 + 0.1
    found = {}

    def keep(value: float, influence: np.ndarray, **_: object) -> Interval:
        found["influence"] = influence
        return Interval(value, value, value)

    monkeypatch.setattr("stages.metrics.frechet.bootstrap_linear", keep)
    fid_interval(x, Reference.of(real))

    def distance(w: np.ndarray) -> float:  # w sums to n; N / (N − 1) stays as it is
        mean = w @ x / n
        covariance = (x - mean).T * w @ (x - mean) / (n - 1)
        return frechet_distance(mean, covariance, real.mean(0), np.cov(real, rowvar=False))

    step = 1e-4
    for i in range(0, n, 7):
        more, less = (np.full(n, 1 - sign * step) for sign in (1, -1))
        more[i], less[i] = 1 + step * (n - 1), 1 - step * (n - 1)
        slope = (distance(more) - distance(less)) / (2 * step)
        assert found["influence"][i] == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("n", "dim"), [(300, 5), (24, 48), (96, 48)])
def test_the_interval_has_the_width_of_fresh_samples(n: int, dim: int) -> None:
    """The spread of FID over independently drawn sets is what an interval should tell.

    Also below and near the dimension, where full resampling is too wide by 1.7 and 1.2 times.
    """
    rng = np.random.default_rng(7)
    scale = np.arange(1, dim + 1) ** -0.7
    reference = Reference.of(rng.normal(size=(4000, dim)) * scale)
    drawn = [
        fid_interval(rng.normal(size=(n, dim)) * scale + 0.5 * scale, reference, seed=i)
        for i in range(200)
    ]
    expected = np.subtract(*np.quantile([i.value for i in drawn], [0.975, 0.025]))
    assert np.mean([i.high - i.low for i in drawn]) == pytest.approx(expected, rel=0.25)


def test_clips_of_one_video_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    reference = Reference.of(rng.normal(size=(500, 6)))
    x = np.repeat(rng.normal(size=(100, 6)) + 0.5, 4, axis=0)
    alone = fid_interval(x, reference)
    videos = fid_interval(x, reference, clusters=np.arange(400) // 4)
    ratio = (videos.high - videos.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(2, rel=0.1)  # √4


def test_a_set_is_at_distance_zero_from_itself_and_never_below() -> None:
    x = np.random.default_rng(10).normal(size=(50, 8))
    interval = fid_interval(x, Reference.of(x))
    assert interval.value == pytest.approx(0, abs=1e-9)
    near = fid_interval(x + 1e-4, Reference.of(x))
    assert 0 <= near.low <= near.value


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fid(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="NaN"):
        fid(np.full((4, 3), math.nan), np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        Gaussian(3).update(np.ones((2, 4)))
    with pytest.raises(ValueError, match="merge"):
        Gaussian(3).merge(Gaussian(4))
    with pytest.raises(ValueError, match="means and covariances"):
        frechet_distance([0.0], [[1.0]], [0.0, 0.0], np.eye(2))
    with pytest.raises(ValueError, match="above 1"):
        fid_interval(np.ones((1, 3)), Reference.of(np.eye(3)))
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        fid_interval(np.ones((4, 2)), Reference.of(np.eye(3)))
    with pytest.raises(ValueError, match="NaN"):
        fid_interval(np.full((4, 3), math.nan), Reference.of(np.eye(3)))
    with pytest.raises(ValueError, match="at least 2"):
        Reference.of(np.ones((1, 3)))
