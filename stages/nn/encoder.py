"""What an encoder is: pictures, sounds or texts in, features out, its preprocessing its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from avdata.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["pictures", "sounds", "texts"]


class Encoder(ABC):
    """Turns what it can read into features float32 [N, dim]; the other kinds are SettingsErrors.

    description: what results say about where their figures come from.
    """

    dim: int
    description: str

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return plain values on which the features depend: the name of a cache entry."""

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features of one batch of RGB pictures [H, W, 3], each of any size."""
        self._cannot("pictures")

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return features of one batch of mono sounds [n], each of any length, full scale ±1.

        They are at the rate of the encoder's front-end.
        """
        self._cannot("sounds")

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return features of texts, taken as they are."""
        self._cannot("texts")

    def encode(self, kind: Kind, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Return features of one batch of this kind."""
        features: NDArray[np.float32] = getattr(self, kind)(batch)
        return features

    def _cannot(self, kind: Kind) -> NoReturn:
        raise SettingsError(f"{self.description} reads no {kind}; choose another encoder")
