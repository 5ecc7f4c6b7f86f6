"""Features on a plane, for the eye: t-SNE, UMAP, or the first two principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.linalg import eigh

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Method = Literal["tsne", "umap", "pca"]

INITIAL_DIMS = 50  # t-SNE starts from this many principal components, as its authors advise
NEIGHBOURS = 15  # of UMAP, as its authors chose
FEWEST = 5  # points that have neighbours to speak of


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
    x = x - x.mean(axis=0)
    size = min(x.shape)
    kept = min(dims, size)
    points = np.zeros((len(x), dims))
    # Only the first axes are wanted, of the smaller Gram matrix; lengths are taken from x itself.
    wide = len(x) < x.shape[1]
    found = eigh(x @ x.T if wide else x.T @ x, subset_by_index=(size - kept, size - 1))
    axes = found[1][:, ::-1]
    points[:, :kept] = axes * np.linalg.norm(x.T @ axes, axis=0) if wide else x @ axes
    peaks = points[np.abs(points).argmax(axis=0), np.arange(dims)]
    flipped: NDArray[np.float64] = points * np.where(peaks < 0, -1.0, 1.0)
    return flipped


def project(
    features: ArrayLike,
    method: Method = "tsne",
    *,
    perplexity: float = 30.0,
    seed: int = 0,
) -> Projection:
    """Return features [N, D] on a plane.

    Below 5 points, and for t-SNE without scikit-learn, the principal components are drawn and
    `method` says so; UMAP without umap-learn is an ImportError. A perplexity too large for few
    points is lowered to (N − 1) / 3, UMAP's neighbours to N − 1.
    """
    x = np.asarray(features, np.float64)
    if method == "pca":
        return Projection(principal_components(x), "principal components")
    name = {"tsne": "t-SNE", "umap": "UMAP"}[method]
    if len(x) < FEWEST:
        text = f"principal components (too few points for {name})"
        return Projection(principal_components(x), text)
    if method == "umap":
        return _umap(x, seed)
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        text = "principal components (t-SNE needs scikit-learn: pip install 'avdata[eval]')"
        return Projection(principal_components(x), text)
    start = principal_components(x, min(INITIAL_DIMS, x.shape[1], len(x)))
    perplexity = min(perplexity, (len(x) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(start)
    return Projection(np.asarray(points, np.float64), f"t-SNE, perplexity {perplexity:.3g}")


def _umap(x: NDArray[np.float64], seed: int) -> Projection:
    from umap import UMAP

    near = min(NEIGHBOURS, len(x) - 1)
    # The spectral start needs more points than there are axes to leave out.
    start = "spectral" if len(x) > NEIGHBOURS else "random"
    plane = UMAP(n_neighbors=near, init=start, random_state=seed, n_jobs=1)
    points = plane.fit_transform(x.astype(np.float32))
    return Projection(np.asarray(points, np.float64), f"UMAP, {near} neighbours")
