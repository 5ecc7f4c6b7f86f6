"""Confidence intervals: the percentile bootstrap over clusters, and Wilson's for counts.

Clips cut from one video look and sound alike, so they are no independent observations. Given the
video of each clip as its cluster, whole videos are drawn, with all their clips.

Means are resampled as they are. Statistics of whole sets, as FID and the Inception score, are
resampled to first order (`bootstrap_linear`): by the influence of each observation on the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 64  # resamples drawn at once: bounds memory for large sets


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its confidence interval; bounds are NaN where one cluster gives no spread."""

    value: float
    low: float
    high: float
    level: float = LEVEL

    def to_json(self) -> dict[str, float | None]:
        """Return plain values; NaN, which JSON does not know, becomes None."""
        values = {"value": self.value, "low": self.low, "high": self.high, "level": self.level}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def cluster_codes(n: int, clusters: ArrayLike | None) -> NDArray[np.int64]:
    """Return the cluster of each of n observations as 0, 1, ... [n]; each its own without any."""
    if n < 1:
        raise ValueError("an interval needs at least one observation, got none")
    if clusters is None:
        return np.arange(n)
    names = np.asarray(clusters)
    if names.shape != (n,):
        raise ValueError(
            f"clusters must name one cluster per observation, [{n}], got {names.shape}"
        )
    return np.unique(names, return_inverse=True)[1].astype(np.int64).reshape(n)


def draw_counts(
    n_clusters: int, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield how often each cluster is drawn, [up to BLOCK, n_clusters], `resamples` rows in all."""
    for done in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - done)
        drawn = rng.integers(0, n_clusters, (rows, n_clusters))
        places = drawn + n_clusters * np.arange(rows)[:, None]  # a range of its own for each row
        counts = np.bincount(places.ravel(), minlength=rows * n_clusters)
        yield counts.reshape(rows, n_clusters).astype(np.float64)


def bootstrap_mean(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` [N] and its percentile interval over resampled clusters."""
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"values must be finite numbers [N], got shape {x.shape}")
    codes = cluster_codes(len(x), clusters)
    sums, sizes = np.bincount(codes, weights=x), np.bincount(codes).astype(np.float64)
    value = float(x.mean())
    if len(sums) < 2:
        return Interval(value, math.nan, math.nan, level)
    means = _resampled(sums, sizes, resamples, np.random.default_rng(seed))
    return _percentiles(value, means, level)


def bootstrap_over_groups(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the mean over groups of the means of `values` [N] in each, and its interval.

    groups: of each value its own, as the fold of a test [N]. Clusters are drawn within each group,
    as many as it has (a stratified bootstrap); bounds are NaN where a group has one alone.
    """
    x, names = np.asarray(values, np.float64), np.asarray(groups)
    if x.ndim != 1 or names.shape != x.shape or not np.isfinite(x).all():
        raise ValueError(f"need finite values [N] and groups [N], got {x.shape}, {names.shape}")
    of = cluster_codes(len(x), clusters)
    rng = np.random.default_rng(seed)
    own, drawn = [], []
    for name in np.unique(names):
        rows = names == name
        codes = np.unique(of[rows], return_inverse=True)[1]
        sums, sizes = np.bincount(codes, weights=x[rows]), np.bincount(codes).astype(np.float64)
        own.append(x[rows].mean())
        alone = len(sums) < 2
        drawn.append(
            np.full(resamples, math.nan) if alone else _resampled(sums, sizes, resamples, rng)
        )
    return _percentiles(float(np.mean(own)), np.mean(drawn, axis=0), level)


def _resampled(
    sums: NDArray[Any], sizes: NDArray[Any], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the means of `resamples` draws of clusters, of these sums and sizes."""
    return np.concatenate(
        [(counts @ sums) / (counts @ sizes) for counts in draw_counts(len(sums), resamples, rng)]
    )


def _percentiles(value: float, means: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


def bootstrap_linear(
    value: float,
    influence: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return `value`, a statistic of N observations, and its interval from their influence [N].

    influence: the empirical φᵢ, of mean 0: drawn wᵢ times each, the observations have to first
    order T* = T + Σ wᵢ φᵢ / Σ wᵢ (the nonparametric delta method; Davison and Hinkley, 1997,
    section 2.7). So T is computed once. For the spectrum of a covariance it is the sounder choice
    as well: a resample's repeated rows distort it unless N is far above the dimension (El Karoui
    and Purdom, 2019), and full resampling then tells intervals that are too wide.
    """
    mean = bootstrap_mean(influence, clusters=clusters, resamples=resamples, level=level, seed=seed)
    return Interval(value, value + mean.low - mean.value, value + mean.high - mean.value, level)


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """Return a share of independent yes-or-no answers and Wilson's score interval.

    centre = (p + z²/2n) / (1 + z²/n), half = z √(p(1 − p)/n + z²/4n²) / (1 + z²/n)
    (Wilson, 1927). Unlike the bootstrap it keeps a width at 0 % and 100 %.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes must be in 0..trials and trials above 0: {successes}/{trials}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / trials
    centre = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low, high = (centre - half) / scale, (centre + half) / scale
    return Interval(p, max(0.0, low), min(1.0, high), level)
