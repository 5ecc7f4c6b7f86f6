"""Exact nearest neighbours over an index of features, in bounded memory, without a search library.

‖q − x‖² = ‖q‖² + ‖x‖² − 2⟨q, x⟩: matrix products over blocks, on any device, find candidates
(about a centre, to lose few digits); their distances are then taken from the differences.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

QUERY_ROWS = 1024  # per block
INDEX_ROWS = 65_536  # per block
SPARE = 8  # candidates beyond k, so that rounding in the products cannot lose a neighbour


def nearest(
    queries: NDArray[np.float32],
    index: NDArray[np.float32],
    k: int,
    *,
    device: str | torch.device = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows [Q, k] of the k nearest features (L2) and their distances [Q, k], nearest first.

    queries: [Q, D]; index: [N, D], which may be a memory map: both are read in blocks. Rows at the
    same distance stand in their order; of a crowd of equals too large for the result any may stand
    in it, the same in every run. Raises ValueError for shapes that disagree or k outside 1 … N.
    """
    if queries.ndim != 2 or index.ndim != 2 or queries.shape[1] != index.shape[1]:
        raise ValueError(f"need [Q, D] and [N, D], got {queries.shape} and {index.shape}")
    if not 1 <= k <= len(index):
        raise ValueError(f"k must be from 1 to the {len(index)} rows of the index, got {k}")
    centre = np.asarray(np.mean(index[:INDEX_ROWS], axis=0, dtype=np.float64), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), QUERY_ROWS):
        block = slice(start, start + QUERY_ROWS)
        rows[block], distances[block] = _nearest_block(queries[block], index, k, centre, device)
    return rows, distances


def neighbourhoods(
    features: NDArray[np.float32], k: int, *, device: str | torch.device = "cpu"
) -> NDArray[np.int64]:
    """Return rows [N, k] of every row's k nearest others (L2), itself excluded.

    A duplicate of a row is a neighbour like any other (distance 0); the row itself never is.
    Raises ValueError unless k is from 1 to N - 1.
    """
    if not 1 <= k < len(features):
        raise ValueError(
            f"k must be from 1 to {len(features) - 1}, as there are {len(features)} rows and a row "
            f"is not its own neighbour, got {k}"
        )
    # One more than k, then the row itself goes: among duplicates it need not stand first, and with
    # more than k of them it may be missing, in which case the farthest goes.
    found, _ = nearest(features, features, k + 1, device=device)
    own = found == np.arange(len(features))[:, None]
    own[~own.any(axis=1), -1] = True
    others: NDArray[np.int64] = found[~own].reshape(len(features), k)
    return others


def _nearest_block(
    queries: NDArray[np.float32],
    index: NDArray[np.float32],
    k: int,
    centre: NDArray[np.float32],
    device: str | torch.device,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows and distances of one block of queries, both [Q, k]."""
    kept = min(k + SPARE, len(index))
    query = torch.as_tensor(queries - centre, device=device)
    best = torch.empty(len(query), 0, device=device)  # ‖x‖² − 2⟨q, x⟩
    rows = torch.empty(len(query), 0, dtype=torch.int64, device=device)
    for start in range(0, len(index), INDEX_ROWS):
        part = torch.as_tensor(index[start : start + INDEX_ROWS] - centre, device=device)
        score = part.square().sum(1) - 2 * query @ part.T  # [Q, block]
        numbers = torch.arange(start, start + len(part), device=device).expand_as(score)
        best, rows = torch.cat([best, score], 1), torch.cat([rows, numbers], 1)
        best, chosen = best.topk(min(kept, best.shape[1]), dim=1, largest=False)
        rows = rows.gather(1, chosen)
    found = rows.cpu().numpy()
    exact = _distances(np.asarray(queries), index, found)
    order = np.lexsort((found, exact))[:, :k]
    return np.take_along_axis(found, order, 1), np.take_along_axis(exact, order, 1)


def _distances(
    queries: NDArray[np.float32], index: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return ‖q − x‖ [Q, K] for the rows [Q, K] of each query, one query at a time."""
    pairs = zip(queries, rows, strict=True)
    return np.stack([np.linalg.norm(index[found] - query, axis=1) for query, found in pairs])
