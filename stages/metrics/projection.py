"""Features on a plane, for the eye: t-SNE, or the first two principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

INITIAL_DIMS = 50  # t-SNE starts from this many principal components, as its authors advise


@dataclass(frozen=True, slots=True)
class Projection:
    """Points on a plane and how they came there."""

    points: NDArray[np.float64]  # [N, 2]
    method: str  # for the caption


def principal_components(features: ArrayLike, dims: int = 2) -> NDArray[np.float64]:
    """Return the coordinates [N, dims] of features [N, D] along their main axes.

    Each axis points where its largest coordinate is positive, so that the result does not depend
    on the linear algebra at hand. Axes beyond the rank are 0.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"features must be finite numbers [N, D], N above 0, got {x.shape}")
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    points = np.zeros((len(x), dims))
    kept = min(dims, len(s))
    points[:, :kept] = u[:, :kept] * s[:kept]
    peaks = points[np.abs(points).argmax(axis=0), np.arange(dims)]
    flipped: NDArray[np.float64] = points * np.where(peaks < 0, -1.0, 1.0)
    return flipped


def project(
    features: ArrayLike,
    method: Literal["tsne", "pca"] = "tsne",
    *,
    perplexity: float = 30.0,
    seed: int = 0,
) -> Projection:
    """Return features [N, D] on a plane.

    t-SNE needs scikit-learn and at least 5 points; without, the principal components are drawn
    and `method` says so. A perplexity too large for few points is lowered to (N − 1) / 3.
    """
    x = np.asarray(features, np.float64)
    if method == "pca":
        return Projection(principal_components(x), "principal components")
    if len(x) < 5:
        return Projection(
            principal_components(x), "principal components (too few points for t-SNE)"
        )
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        text = "principal components (t-SNE needs scikit-learn: pip install 'avdata[eval]')"
        return Projection(principal_components(x), text)
    start = principal_components(x, min(INITIAL_DIMS, x.shape[1], len(x)))
    perplexity = min(perplexity, (len(x) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(start)
    return Projection(np.asarray(points, np.float64), f"t-SNE, perplexity {perplexity:.3g}")
