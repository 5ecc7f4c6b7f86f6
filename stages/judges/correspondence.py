"""What a judge of audio-visual correspondence is: does this picture belong to this sound?"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class AvcEncoder(Encoder):
    """Features of pictures and of sounds, and what says whether they belong together.

    rate_hz: of the sounds that it is given; it brings them to its own front-end's.
    """

    rate_hz: int

    @abstractmethod
    def correspondence(
        self, pictures: NDArray[np.float32], sounds: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return AVC [N] of features of pictures [N, D] and of sounds [N, D], row by row."""
