"""Sounds in the space of pictures and texts, as features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avdata.audio.spectrograms import fit_samples
from stages.nn.encoder import Encoder
from stages.sound_guided.embedder import SoundEmbedder

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EmbeddedSounds(Encoder):
    """What an embedder makes of sounds, unit vectors [N, D]."""

    def __init__(self, ear: SoundEmbedder) -> None:
        self._ear = ear
        self.dim = ear.dim
        self.description = f"{ear.name}, {ear.spec.n_samples / ear.spec.sample_rate_hz:g} s"

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "embedded sounds", **self._ear.fingerprint()}

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        waves = np.stack([fit_samples(samples, self._ear.spec) for samples in sounds])
        values: NDArray[np.float32] = self._ear.embed(torch.from_numpy(waves)).cpu().numpy()
        return values
