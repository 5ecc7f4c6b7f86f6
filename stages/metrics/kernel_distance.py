"""The kernel distance between two sets of features: KID, with Inception-v3's 2048.

The unbiased squared maximum mean discrepancy under k(x, y) = (x·y / D + 1)³ (Bińkowski et al.,
2018), averaged over subsets. Unlike FID its expectation does not depend on the sets' sizes, so it
is the one to trust below some thousands of images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def squared_mmd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the unbiased MMD² of x [N, D] and y [M, D] under the cubic kernel."""
    n, m = len(x), len(y)

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        cubed: NDArray[np.float64] = (a @ b.T / x.shape[1] + 1) ** 3
        return cubed

    xx, yy = kernel(x, x), kernel(y, y)
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * kernel(x, y).mean())


def kid(
    features_1: ArrayLike,
    features_2: ArrayLike,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the mean and standard deviation of MMD² over random subsets of both sets.

    Features are [N, D] and [M, D]; subsets are no larger than the smaller set.
    """
    x, y = np.asarray(features_1, np.float64), np.asarray(features_2, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"features must be [N, D], [M, D], N, M above 1; got {x.shape}, {y.shape}")
    size = min(subset_size, len(x), len(y))
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))
