"""Is there a face? Asked of the text–image model, before a face is held.

Where there is none, ArcFace's features mean nothing, and to hold them only holds the picture. No
detector is needed: CLIP knows faces without being taught. It can be wrong about drawings and small
faces, and so can be told to be quiet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from avdata.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACES = ("a photo of a face", "a portrait of a person")
OTHERS = (
    "a photo of a landscape",
    "a photo of a building",
    "a photo of an object",
    "a photo of an animal",
    "a pattern",
)
SCALE = 100.0  # of cosines in the softmax, as CLIP has learnt it
LEAST = 0.5


class Sees(Protocol):
    """Pictures and texts as unit vectors."""

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]: ...

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def face_shares(space: Sees, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return of each picture the share [N] that FACES have of softmax(100 cos) over all prompts."""
    prompts = space.texts([*FACES, *OTHERS]).astype(np.float64)
    logits = SCALE * space.pictures(images).astype(np.float64) @ prompts.T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = shares[:, : len(FACES)].sum(axis=1)
    return found


def require_faces(space: Sees, images: Sequence[NDArray[np.uint8]]) -> None:
    """Raise SettingsError unless CLIP sees a face in every picture [H, W, 3]."""
    shares = face_shares(space, images)
    if without := [n for n, share in enumerate(shares) if share < LEAST]:
        raise SettingsError(
            f"{len(without)} of {len(shares)} pictures show no face, number {without[0] + 1} first "
            f"(CLIP: {shares[without[0]]:.0%}, needed {LEAST:.0%}), so there is no identity to "
            "hold: set --identity-weight 0, give aligned faces, or, if there is one, say "
            "--unchecked-faces"
        )
