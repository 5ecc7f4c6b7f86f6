"""What makes pictures: every family offers a painter, and says what else it can do.

    painter.paint([Ask(key="rain", sound=sound)], seed=0)  # uint8 [1, R, R, 3]

What a painter can do beside painting are small protocols; `Ability` names them, so that a command
can tell which families do what it asks without loading a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from stages.generation.inputs import Picture, Sound

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from avdata.audio.spec import AudioSpec
    from stages.nn.encoder import Encoder
    from stages.nn.sphere import Way

Ability = Literal["hears", "sees", "restyles", "moves", "has_latents", "inverts", "explains"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One picture that is asked for: of a sound, like or from a picture, of a text, or several.

    key, number: which noise it gets; pictures of one key differ by their numbers. style: another
    picture, whose style the first is to take.
    """

    key: str
    number: int = 0
    sound: Sound | None = None
    picture: Picture | None = None
    text: str | None = None
    style: Picture | None = None


class Painter(Protocol):
    """A model with all its parts, frozen, on its device."""

    @property
    def resolution_px(self) -> int:
        """Side of its pictures."""
        ...

    @property
    def sources(self) -> Mapping[str, Mapping[str, str]]:
        """Of each part, its file and SHA-256."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return plain values on which its pictures depend, beside asks and seed."""
        ...

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return one picture [N, R, R, 3] for each ask; neither order nor batch changes any.

        Raises SettingsError for an ask it cannot paint, or for a part that it lacks.
        """
        ...


class Hears(Painter, Protocol):
    """Paints sounds, and has features of them."""

    @property
    def spec(self) -> AudioSpec:
        """Its front-end; raises SettingsError without an audio encoder."""
        ...

    @property
    def hears(self) -> tuple[int, float]:
        """Sample rate in Hz and seconds that it hears, as `read_sound` takes them."""
        ...

    @property
    def sound_encoder(self) -> Encoder:
        """From sounds to the features it paints from."""
        ...

    def spectrogram(self, fitted: NDArray[np.float32]) -> Tensor:
        """Return what the audio encoder sees, [1, 1, F, N], of fitted sound [n_samples]."""
        ...


class Restyles(Hears, Protocol):
    """Draws a given picture anew, in the style of a sound; it paints nothing of a sound alone.

    What it makes of a picture, and of a sound, is made once, and drawn as often as one likes.
    """

    def sized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture [H, W, 3] of any size as it is drawn anew: [h, w, 3], of its shape."""
        ...

    def content(self, images: NDArray[np.uint8]) -> Tensor:
        """Return what it keeps [B, ...] of sized pictures [B, h, w, 3]."""
        ...

    def style(self, sounds: Sequence[Sound]) -> Tensor:
        """Return what it hears [B, D] in sounds."""
        ...

    def restyled(self, content: Tensor, style: Tensor) -> NDArray[np.uint8]:
        """Return pictures [B, h, w, 3] of contents [B, ...] and styles [B, D], row by row."""
        ...


class Moves(Hears, Protocol):
    """Moves a picture toward a sound: one that is given, or one that it draws from noise."""

    def before(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return of each ask the picture [N, R, R, 3] that would be moved."""
        ...


class Sees(Painter, Protocol):
    """Paints pictures like a picture, and has features of them."""

    @property
    def picture_encoder(self) -> Encoder:
        """From pictures to the features it paints from; SettingsError without one."""
        ...


class HasLatents(Hears, Protocol):
    """Draws latents, between which there are others."""

    @property
    def device(self) -> torch.device: ...

    def latent(self, end: Sound | Picture) -> Tensor:
        """Return the latent [D] of a sound or a picture."""
        ...

    def between(self, a: Tensor, b: Tensor, share: float, way: Way) -> tuple[Tensor, float]:
        """Return the latent [D] the share of the way from a to b, and its angle to a in rad."""
        ...

    def noise(self, key: str, n: int, seed: int) -> Tensor:
        """Return the noise [n, Z] of the first n pictures of `key`."""
        ...

    def draw(self, latents: Tensor, noise: Tensor) -> NDArray[np.uint8]:
        """Return pictures [n, R, R, 3] of latents, [D] or [n, D], and noise [n, Z]."""
        ...


class Explains(HasLatents, Protocol):
    """Tells what in a sound speaks for a latent."""

    def sound_map(self, fitted: NDArray[np.float32], target: Tensor | None) -> NDArray[np.float32]:
        """Return a map [F, N] ≥ 0 over the spectrogram: what speaks for `target` [D].

        Without a target: for the sound's own latent.
        """
        ...
