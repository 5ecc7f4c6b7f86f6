"""Classification by nearest neighbours: how well features group what people call the same.

    score(c) = Σ over the k training features x most similar to q, of class c:  exp(cos(q, x) / τ)

Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stages.metrics.gap import unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BLOCK_ROWS = 1024  # queries at once


def neighbour_votes(
    queries: ArrayLike,
    features: ArrayLike,
    targets: ArrayLike,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> NDArray[np.float64]:
    """Return the score of every class [Q, C] for queries [Q, D].

    features: [N, D], of training samples; targets: [N, C], their classes, rows of shares (one-hot
    for a single class). k is cut to N. Raises ValueError for shapes that disagree.
    """
    q, x, y = unit(queries), unit(features), np.asarray(targets, np.float64)
    if q.shape[1] != x.shape[1] or y.ndim != 2 or len(y) != len(x) or k < 1:
        raise ValueError(
            f"need queries [Q, D], features [N, D], targets [N, C] and k of 1 or more, got "
            f"{q.shape}, {x.shape}, {y.shape} and {k}"
        )
    k = min(k, len(x))
    scores = np.empty((len(q), y.shape[1]))
    for first in range(0, len(q), BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        cosines = q[block] @ x.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]  # [rows, k]
        weights = np.exp(np.take_along_axis(cosines, nearest, axis=1) / temperature)
        scores[block] = np.einsum("qk,qkc->qc", weights, y[nearest])
    return scores
