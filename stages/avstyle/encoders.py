"""What the generator is told of sounds, as features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avdata.strict import to_tree
from stages.generation.inputs import Sound
from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.avstyle.restyler import Restyler


class HeardEncoder(Encoder):
    """Sounds to what is heard in them [N, D], the vector that the generator is told."""

    def __init__(self, model: Restyler) -> None:
        self._model = model
        self._sha256 = model.sources["sound_encoder"]["sha256"]
        self.dim = model.ear.out_dim
        self.description = f"the sound encoder of AVStyle ({self._sha256[:8]})"

    def fingerprint(self) -> dict[str, Any]:
        audio = to_tree(self._model.spec)
        return {"extractor": "avstyle_heard", "weights": self._sha256, "audio": audio}

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        rate_hz = self._model.spec.sample_rate_hz
        named = [Sound(str(n), samples, rate_hz) for n, samples in enumerate(sounds)]
        values: NDArray[np.float32] = self._model.style(named).float().cpu().numpy()
        return values
