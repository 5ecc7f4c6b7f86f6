"""Sounds in the space of pictures and texts, as features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.generation.inputs import Sound
from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.sound_guided.manipulator import Manipulator


class HeardEncoder(Encoder):
    """Sounds to the guidance that they give, unit vectors [N, D]; raises SettingsError if none."""

    def __init__(self, model: Manipulator) -> None:
        self._model, self._rate_hz = model, model.spec.sample_rate_hz
        self._fingerprint = model.embedder.fingerprint() if model.embedder else {}
        self.dim = model.space.dim
        self.description = f"the sound encoder that guides, beside {model.space.name}"

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "sound_guided_heard", **self._fingerprint}

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        named = [Sound(str(n), samples, self._rate_hz) for n, samples in enumerate(sounds)]
        values: NDArray[np.float32] = self._model.heard(named).cpu().numpy()
        return values
