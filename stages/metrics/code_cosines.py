"""How near two codes of one picture are: cosines of latents, all layers in one vector.

    cos(u, v) = ⟨u, v⟩ / (‖u‖ ‖v‖),  u, v ∈ R^{L · W}

Lee et al., Robust Sound-Guided Image Manipulation, 2024, Table 2: source – audio, source – text,
audio – text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def code_cosines(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return the cosines [N] of codes [N, L, W] or [N, D], row by row.

    Raises ValueError for shapes that differ, and for a code that is zero or not finite.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"codes must be [N, ...] of one shape, got {a.shape} and {b.shape}")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a code is zero or not finite: it has no direction")
    cosines: NDArray[np.float64] = (a * b).sum(axis=1) / lengths
    return cosines
