"""Whether a restyled picture kept its structure: do edges lie where they lay?

Of a picture with luma Y (ITU-R BT.601, as grey pictures are made of colour) and Sobel's gradient
(Gx, Gy), the edges are E = √(Gx² + Gy²) at all pixels but the outermost. The figure is Pearson's
correlation of the edges of two pictures. Light, contrast and colour may change without any loss,
as E only scales with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUMA = (0.299, 0.587, 0.114)


def edges(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the edges [H − 2, W − 2] of a picture [H, W, 3]; ValueError below 3 × 3 pixels."""
    if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < 3:
        raise ValueError(
            f"a picture must be [H, W, 3] of 3 pixels or more a side, got {picture.shape}"
        )
    y = picture.astype(np.float64) @ LUMA
    across = y[:, 2:] - y[:, :-2]  # [H, W − 2]
    down = y[2:] - y[:-2]  # [H − 2, W]
    g_x = across[:-2] + 2 * across[1:-1] + across[2:]
    g_y = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    strength: NDArray[np.float64] = np.hypot(g_x, g_y)
    return strength


def edge_correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the correlation, in [−1, 1], of the edges of two pictures [H, W, 3] of one size.

    0 where one of them has the same edge everywhere, as a plain picture has: nothing was kept.
    """
    if one.shape != other.shape:
        raise ValueError(f"pictures must have one size, got {one.shape} and {other.shape}")
    a, b = (strength - strength.mean() for strength in (edges(one), edges(other)))
    norms = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norms) if norms > 1e-9 * a.size else 0.0
