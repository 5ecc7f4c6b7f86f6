"""Confidence intervals: the percentile bootstrap over clusters, and Wilson's for counts.

Clips cut from one video look and sound alike, so they are no independent observations. Given the
video of each clip as its cluster, whole videos are drawn, with all their clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
) -> Iterator[NDArray[np.int64]]:
    """Yield how often each cluster is drawn, [up to BLOCK, n_clusters], `resamples` rows in all."""
    even = np.full(n_clusters, 1 / n_clusters)
    for done in range(0, resamples, BLOCK):
        yield rng.multinomial(n_clusters, even, size=min(BLOCK, resamples - done))


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
    sums, sizes = np.bincount(codes, weights=x), np.bincount(codes)
    means = [
        (counts @ sums) / (counts @ sizes)
        for counts in draw_counts(len(sums), resamples, np.random.default_rng(seed))
    ]
    return _interval(float(x.mean()), np.concatenate(means), len(sums), level, recentre=False)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    recentre: bool = False,
) -> Interval:
    """Return statistic(indices) of all n observations and its percentile interval.

    `statistic` is called with indices [M] in [0, n), repeated as drawn. `recentre` shifts the
    interval by what resampling adds on average: for statistics such as FID that grow when
    observations repeat, and whose plain interval would not hold the value itself.
    """
    codes = cluster_codes(n, clusters)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    drawn = []
    for counts in draw_counts(len(members), resamples, np.random.default_rng(seed)):
        for row in counts:
            indices = np.concatenate([np.tile(members[c], row[c]) for c in np.flatnonzero(row)])
            drawn.append(statistic(indices))
    value = statistic(np.arange(n))
    return _interval(value, np.asarray(drawn), len(members), level, recentre)


def _interval(
    value: float, drawn: NDArray[Any], n_clusters: int, level: float, recentre: bool
) -> Interval:
    if n_clusters < 2:
        return Interval(value, math.nan, math.nan, level)
    if recentre:
        drawn = drawn - drawn.mean() + value
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


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
