"""Recall at k: is the right candidate among the k most similar ones?

Candidates of equal similarity stand in random order: a query counts by the chance that its target
is among the first k, so a constant similarity scores exactly k / C and not 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_mean
from stages.metrics.gap import unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

KS = (1, 5, 10)
BLOCK_ROWS = 1024  # of a similarity matrix held at once


def chance(k: int, candidates: int) -> float:
    """Return R@k of a guess among `candidates`: min(k / C, 1)."""
    return min(k / candidates, 1.0)


def hits_at_k(similarity: ArrayLike, target: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return per query the chance that its target is among the first k, [N] in [0, 1].

    `similarity` [N, C], higher is nearer; `target` [N], the column that is right. With g
    candidates above the target and t level with it (itself included): clip((k − g) / t, 0, 1).
    """
    s, right = np.asarray(similarity), np.asarray(target)
    if s.ndim != 2 or right.shape != s.shape[:1]:
        raise ValueError(f"similarity must be [N, C] and target [N], got {s.shape}, {right.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not np.issubdtype(right.dtype, np.integer) or (
        right.size and (right.min() < 0 or right.max() >= s.shape[1])
    ):
        raise ValueError(f"target must hold columns in [0, {s.shape[1]}), got {right}")
    if np.isnan(s).any():
        raise ValueError("similarity holds NaN: look for NaN in the features it was made from")
    own = np.take_along_axis(s, right[:, None], axis=1)
    above = (s > own).sum(axis=1)
    level = (s == own).sum(axis=1)
    hits: NDArray[np.float64] = np.clip((k - above) / level, 0.0, 1.0)
    return hits


def recall_at_k(
    similarity: ArrayLike,
    target: ArrayLike,
    ks: Sequence[int] = KS,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[int, Interval]:
    """Return R@k in [0, 1] for each k, with its bootstrap interval over clusters of queries."""
    return {
        k: bootstrap_mean(
            hits_at_k(similarity, target, k),
            clusters=clusters,
            resamples=resamples,
            level=level,
            seed=seed,
        )
        for k in ks
    }


def per_class_recall(
    similarity: ArrayLike,
    target: ArrayLike,
    k: int,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[int, Interval]:
    """Return R@k of each class that has queries, by its column."""
    hits, right = hits_at_k(similarity, target, k), np.asarray(target)
    names = None if clusters is None else np.asarray(clusters)
    return {
        int(c): bootstrap_mean(
            hits[right == c],
            clusters=None if names is None else names[right == c],
            resamples=resamples,
            level=level,
            seed=seed,
        )
        for c in np.unique(right)
    }


def paired_recall(
    a: ArrayLike,
    b: ArrayLike,
    ks: Sequence[int] = KS,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[dict[int, Interval], dict[int, Interval]]:
    """Return R@k of finding each one's partner by cosine, a → b and b → a.

    `a` and `b` are features [N, D]; row i of one belongs to row i of the other.
    """
    x, y = unit(a), unit(b)
    if x.shape != y.shape:
        raise ValueError(f"paired features must have one shape, got {x.shape} and {y.shape}")

    def one_way(query: NDArray[np.float64], candidates: NDArray[np.float64]) -> dict[int, Interval]:
        hits: dict[int, list[NDArray[np.float64]]] = {k: [] for k in ks}
        for first in range(0, len(query), BLOCK_ROWS):
            block = query[first : first + BLOCK_ROWS] @ candidates.T
            for k in ks:
                hits[k].append(hits_at_k(block, np.arange(first, first + len(block)), k))
        return {
            k: bootstrap_mean(
                np.concatenate(parts),
                clusters=clusters,
                resamples=resamples,
                level=level,
                seed=seed,
            )
            for k, parts in hits.items()
        }

    return one_way(x, y), one_way(y, x)
