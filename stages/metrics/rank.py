"""Rank correlation of rows with one order: does more of the one go with more of the other?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def rank_correlation(order: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Return Spearman's ρ [N] of each row of values [N, K] with `order` [K].

    ρ is Pearson's correlation of the ranks, equal values sharing their mean rank; without ties
    1 − 6 Σ d² / (K (K² − 1)) (Spearman, 1904). 0 for a row whose values are all equal. Raises
    ValueError unless K is 2 at least and `order` has two different values.
    """
    x, y = np.asarray(order, np.float64), np.asarray(values, np.float64)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(set(x.tolist())) < 2:
        raise ValueError(
            f"order must be [K] with two different values and values [N, K], got {x.shape} and "
            f"{y.shape}"
        )
    if not np.isfinite(y).all():
        raise ValueError("values hold NaN or infinity, which have no rank")
    a = rankdata(x) - (len(x) + 1) / 2
    b = rankdata(y, axis=1) - (len(x) + 1) / 2  # [N, K]
    norms = np.sqrt((a * a).sum() * (b * b).sum(axis=1))
    found: NDArray[np.float64] = np.divide(b @ a, norms, out=np.zeros(len(y)), where=norms > 0)
    return found
