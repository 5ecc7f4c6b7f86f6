"""Feature extractors for evaluation: pictures in, features out, computed once for all metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ImageExtractor(Protocol):
    """What turns pictures into features."""

    dim: int
    description: str  # what the results say about where their numbers come from

    def fingerprint(self) -> dict[str, Any]:
        """Return plain values on which the features depend: the name of a cache entry."""
        ...

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features [N, dim] of one batch of RGB pictures [H, W, 3], each of any size."""
        ...
