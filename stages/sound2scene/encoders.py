"""The two encoders of the latent space, of unit norm: z^V of pictures and z^A of sounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avdata.errors import SettingsError
from avdata.strict import to_tree
from stages.image_encoder.frozen import weights_sha256
from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.sound2scene.scene import Sound2Scene


class PictureEncoder(Encoder):
    """z^V [N, D]: pictures as the image encoder sees them.

    Raises SettingsError if the model has no image encoder.
    """

    def __init__(self, model: Sound2Scene) -> None:
        if model.image_encoder is None:
            raise SettingsError(
                "pictures need an image encoder: finish `python -m stages.train_image_encoder`, or "
                "name one as stages.evaluate.parts.image_encoder"
            )
        self._model, self._encoder = model, model.image_encoder
        self.dim = model.generator.feature_dim
        self.description = (
            f"the image encoder on which the generator is conditioned "
            f"({model.sources['image_encoder']['sha256'][:8]}): no independent judge"
        )

    def fingerprint(self) -> dict[str, Any]:
        view_px = self._model.view.view_px
        return {"extractor": "z_V", **self._encoder.fingerprint(), "view_px": view_px}

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._model.seen(images).float().cpu().numpy()
        return values


class SoundEncoder(Encoder):
    """z^A [N, D]: sounds as the audio encoder hears them.

    Raises SettingsError if the model has no audio encoder.
    """

    def __init__(self, model: Sound2Scene) -> None:
        if model.audio_encoder is None:
            raise SettingsError(
                "sounds need an audio encoder: finish `python -m stages.train_sound2scene`, or "
                "name one as stages.evaluate.parts.audio_encoder"
            )
        self._model, self._network = model, model.audio_encoder
        self.dim = model.audio_encoder.out_dim
        self.description = (
            f"the audio encoder of Sound2Scene ({model.sources['audio_encoder']['sha256'][:8]})"
        )

    def fingerprint(self) -> dict[str, Any]:
        weights = weights_sha256(self._network)
        return {"extractor": "z_A", "weights": weights, "audio": to_tree(self._model.spec)}

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._model.heard(sounds).float().cpu().numpy()
        return values
