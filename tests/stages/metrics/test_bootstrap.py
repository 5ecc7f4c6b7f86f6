"""Intervals against SciPy, closed forms and coverage of a known mean."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from stages.metrics.bootstrap import (
    bootstrap_linear,
    bootstrap_mean,
    bootstrap_over_groups,
    wilson,
)


def test_wilson_is_scipys() -> None:
    for successes, trials in ((0, 7), (3, 7), (7, 7), (838, 1000)):
        ours = wilson(successes, trials)
        theirs = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        assert ours.value == successes / trials


def test_wilson_refuses_what_is_no_count() -> None:
    for successes, trials in ((0, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="successes"):
            wilson(successes, trials)


def test_the_mean_has_scipys_percentile_interval() -> None:
    x = np.random.default_rng(1).gamma(2.0, size=200)
    ours = bootstrap_mean(x, resamples=20_000)
    theirs = stats.bootstrap(
        (x,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(x.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.high, abs=0.015)


def test_whole_clusters_are_drawn_with_their_members() -> None:
    """By hand: draw names of clusters, put their members together, take the mean."""
    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 12, 90)
    x = rng.normal(size=90) + clusters
    members = [x[clusters == c] for c in np.unique(clusters)]
    slow = [
        np.concatenate([members[c] for c in rng.integers(0, len(members), len(members))]).mean()
        for _ in range(20_000)
    ]
    fast = bootstrap_mean(x, clusters=clusters, resamples=20_000)
    assert (fast.low, fast.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.05)


def test_the_names_of_clusters_do_not_matter() -> None:
    x = np.arange(6.0)
    named = bootstrap_mean(x, clusters=["b", "b", "a", "a", "c", "c"])
    assert named == bootstrap_mean(x, clusters=[1, 1, 0, 0, 2, 2])


def test_dependent_clips_widen_the_interval_as_theory_says() -> None:
    """m equal clips per video hold 1/m of the information: the width grows by √m."""
    per_video = np.random.default_rng(4).normal(size=400)
    x, videos = np.repeat(per_video, 9), np.repeat(np.arange(400), 9)
    naive = bootstrap_mean(x, resamples=4000)
    honest = bootstrap_mean(x, clusters=videos, resamples=4000)
    ratio = (honest.high - honest.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(3.0, rel=0.06)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    held = [
        i.low <= 0 <= i.high
        for i in (bootstrap_mean(rng.normal(size=60), resamples=300, seed=s) for s in range(400))
    ]
    assert 0.90 <= np.mean(held) <= 0.98


def test_a_mean_is_linear_in_its_observations() -> None:
    x, videos = np.random.default_rng(7).normal(size=60) + 3, np.arange(60) // 4
    exact = bootstrap_mean(x, clusters=videos)
    linear = bootstrap_linear(float(x.mean()), x - x.mean(), clusters=videos)
    assert (linear.value, linear.low, linear.high) == pytest.approx(
        (exact.value, exact.low, exact.high)
    )


def test_a_curved_statistic_has_scipys_interval() -> None:
    """The variance, whose influence is (x − μ)² less its mean."""
    x = np.random.default_rng(9).normal(size=2000)
    squares = (x - x.mean()) ** 2
    ours = bootstrap_linear(float(x.var()), squares - squares.mean(), resamples=10_000)
    theirs = stats.bootstrap(
        (x,), np.var, n_resamples=5000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_one_cluster_gives_a_value_without_an_interval() -> None:
    interval = bootstrap_mean([0.0, 1.0], clusters=["v", "v"])
    assert interval.value == 0.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert json.loads(json.dumps(interval.to_json(), allow_nan=False))["low"] is None


def test_groups_count_alike_and_are_drawn_by_themselves() -> None:
    """Against the closed form: the variance of the mean of G means is Σ s²ᵢ / nᵢ / G²."""
    rng = np.random.default_rng(11)
    sizes, scales = (40, 160, 90), (1.0, 3.0, 0.2)
    parts = [rng.normal(n, scale, n) for n, scale in zip(sizes, scales, strict=True)]
    x, groups = np.concatenate(parts), np.repeat(["a", "b", "c"], sizes)
    found = bootstrap_over_groups(x, groups, resamples=20_000)
    assert found.value == pytest.approx(np.mean([part.mean() for part in parts]))
    error = math.sqrt(sum(part.var() / len(part) for part in parts)) / 3
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.04)
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.04)


def test_one_group_is_the_plain_mean_and_a_lone_cluster_has_no_interval() -> None:
    x, videos = [1.0, 0.0, 0.0, 1.0, 1.0], ["u", "u", "v", "w", "w"]
    plain = bootstrap_mean(x, clusters=videos, seed=4)
    assert bootstrap_over_groups(x, ["a"] * 5, clusters=videos, seed=4) == plain
    # Of u (1, 0) and v (0) a draw has the mean 0, 1/3 or 1/2; of the second group always 1.
    two = bootstrap_over_groups(x, [*"aaabb"], clusters=[*"uuvwx"], seed=4)
    assert two.value == pytest.approx((1 / 3 + 1) / 2)
    assert (two.low, two.high) == pytest.approx((0.5, 0.75))
    assert math.isnan(bootstrap_over_groups(x, [*"aaabb"], clusters=videos).low)
    with pytest.raises(ValueError, match=r"groups \[N\]"):
        bootstrap_over_groups(x, ["a"])


def test_the_seed_decides() -> None:
    x = np.random.default_rng(8).normal(size=30)
    assert bootstrap_mean(x, seed=1) == bootstrap_mean(x, seed=1) != bootstrap_mean(x, seed=2)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean([1.0, math.nan])
    with pytest.raises(ValueError, match="one cluster per observation"):
        bootstrap_mean([1.0, 2.0], clusters=["a"])
