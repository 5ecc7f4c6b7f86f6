"""Mean colours of a grid of cells: a judge that needs no weights at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID = 4  # cells of a thumbnail, along each side


class Thumbnail(Encoder):
    """Mean colours of 4 × 4 cells [N, 48], in [0, 1].

    Enough to tell snow from sea, and for nothing finer: for tests and tiny demonstrations.
    """

    dim = 3 * GRID * GRID
    description = "mean colours of 4 × 4 cells, no network: a stand-in"

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "thumbnail", "grid": GRID}

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        cells = [
            np.asarray(Image.fromarray(image).resize((GRID, GRID), Image.Resampling.BOX)).ravel()
            for image in images
        ]
        features: NDArray[np.float32] = np.divide(np.stack(cells), 255, dtype=np.float32)
        return features
