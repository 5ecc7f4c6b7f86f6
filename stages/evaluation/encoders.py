"""What features evaluation looks at: the latent space's own two, and those to judge pictures by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from avdata.errors import SettingsError
from avdata.strict import to_tree
from stages.generation.inputs import InputError
from stages.image_encoder.frozen import weights_sha256
from stages.nn.pictures import as_pictures
from stages.nn.sphere import unit_norm
from stages.sound2scene.scene import Sound2Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID = 4  # cells of a thumbnail, along each side


class Sight:
    """z^V [N, D] of unit norm: pictures as the image encoder sees them.

    Raises SettingsError if the model has no image encoder.
    """

    def __init__(self, model: Sound2Scene) -> None:
        if model.image_encoder is None:
            raise SettingsError(
                "pictures need an image encoder: finish `python -m stages.train_image_encoder`, or "
                "name one as stages.evaluate.image_encoder"
            )
        self._model, self._encoder = model, model.image_encoder
        self.dim: int = model.generator.feature_dim
        self.description = (
            f"the image encoder on which the generator is conditioned "
            f"({model.sources['image_encoder']['sha256'][:8]}): no independent judge"
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {
            "extractor": "z_V",
            "view_px": self._model.sight.view_px,
            **self._encoder.fingerprint(),
        }

    @torch.no_grad()
    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features of RGB pictures [H, W, 3], each of any size."""
        side = self._model.sight.view_px
        squashed = [_resized(image, side, Image.Resampling.BILINEAR) for image in images]
        z_v = self._model.features(as_pictures(np.stack(squashed), self._model.device))
        values: NDArray[np.float32] = unit_norm(z_v).float().cpu().numpy()
        return values


class Hearing:
    """z^A [N, D] of unit norm: fitted sounds [n_samples] as the audio encoder hears them.

    Raises SettingsError if the model has no audio encoder.
    """

    def __init__(self, model: Sound2Scene) -> None:
        if model.audio_encoder is None or model.frontend is None:
            raise SettingsError(
                "sounds need an audio encoder: finish `python -m stages.train_sound2scene`, or "
                "name one as stages.evaluate.audio_encoder"
            )
        self._frontend, self._encoder = model.frontend, model.audio_encoder
        self._device = model.device
        self.spec = model.spec
        self.dim: int = model.audio_encoder.out_dim

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on."""
        weights = weights_sha256(self._encoder)
        return {"extractor": "z_A", "weights": weights, "audio": to_tree(self.spec)}

    @torch.no_grad()
    def encode(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return features of sounds; raises InputError where the encoder answers with zeros."""
        waves = torch.from_numpy(np.stack(sounds)).to(self._device)
        z_a = self._encoder(self._frontend.spectrogram(waves))  # [B, D]
        if not z_a.any(dim=1).all():
            raise InputError("the audio encoder gives all zeros for a sound: was it trained?")
        values: NDArray[np.float32] = unit_norm(z_a).float().cpu().numpy()
        return values


class Thumbnail:
    """Mean colours of a grid of 4 × 4 cells [N, 48], in [0, 1]: needs no weights at all.

    Enough to tell snow from sea, and for nothing finer: for tests and tiny demonstrations.
    """

    dim = 3 * GRID * GRID
    description = "mean colours of 4 × 4 cells, no network: a stand-in"

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {"extractor": "thumbnail", "grid": GRID}

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features of RGB pictures [H, W, 3], each of any size."""
        cells = [_resized(image, GRID, Image.Resampling.BOX).ravel() for image in images]
        return np.divide(np.stack(cells), 255, dtype=np.float32)


def _resized(image: NDArray[np.uint8], side_px: int, how: Image.Resampling) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(image).resize((side_px, side_px), how))
