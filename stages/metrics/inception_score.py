"""The Inception score: sharp and varied class predictions score high.

    IS = exp(E_x KL(p(y | x) ‖ p(y)))        (Salimans et al., 2016)

From 1 (every image predicts the same) to the number of classes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax, logsumexp

from stages.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_linear

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SPLITS = 10


def inception_score(
    logits: ArrayLike, splits: int = SPLITS, *, seed: int | None = 0
) -> tuple[float, float]:
    """Return the mean and standard deviation of the score over splits.

    `logits` [N, C] before the softmax. The images are shuffled by `seed` first, since sets are
    often sorted by class (None keeps their order), and split as evenly as can be.
    """
    log_p = _log_probabilities(logits)
    if not 1 <= splits <= len(log_p):
        raise ValueError(f"splits must be between 1 and the {len(log_p)} images, got {splits}")
    if seed is not None:
        log_p = log_p[np.random.default_rng(seed).permutation(len(log_p))]
    edges = [len(log_p) * i // splits for i in range(splits + 1)]
    scores = [_score(log_p[a:b]) for a, b in pairwise(edges)]
    return float(np.mean(scores)), float(np.std(scores))


def inception_score_interval(
    logits: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the score of the whole set [N, C] at once, with its linearised bootstrap interval.

    ln IS is the mean of the images' divergences KL(p(y | x) ‖ p(y)). That p(y) moves with the
    images changes it to second order only, so their influence is the divergence less its mean.
    """
    own = _divergences(_log_probabilities(logits))
    log_score = bootstrap_linear(
        float(own.mean()),
        own - own.mean(),
        clusters=clusters,
        resamples=resamples,
        level=level,
        seed=seed,
    )
    value, low, high = (math.exp(x) for x in (log_score.value, log_score.low, log_score.high))
    return Interval(value, low, high, level)


def _log_probabilities(logits: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(logits, np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"logits must be finite numbers [N, C], N above 0, got {x.shape}")
    result: NDArray[np.float64] = log_softmax(x, axis=1)
    return result


def _divergences(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    log_marginal = logsumexp(log_p, axis=0) - np.log(len(log_p))
    divergences: NDArray[np.float64] = (np.exp(log_p) * (log_p - log_marginal)).sum(axis=1)
    return divergences


def _score(log_p: NDArray[np.float64]) -> float:
    return float(np.exp(_divergences(log_p).mean()))
