"""How much pictures of one thing differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def spread(pictures: NDArray[np.uint8]) -> float:
    """Return the root mean variance of pictures [M, H, W, 3], in [0, 1] of full scale.

    sqrt(mean over pixels and colours of Σ_m (x_m − x̄)² / (M − 1)): unbiased, so that it does not
    grow with M. Raises ValueError for fewer than two pictures.
    """
    if len(pictures) < 2:
        raise ValueError(f"the spread needs two pictures or more, got {len(pictures)}")
    variance = np.var(pictures.astype(np.float64) / 255, axis=0, ddof=1)
    return float(np.sqrt(variance.mean()))
