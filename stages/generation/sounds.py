"""Volume and mixing, where they belong: after the sound is fitted, before the spectrogram.

Sound2Scene's front-end standardises every clip, so a change of level survives only through the
floor of its logarithm (1e-7) and the clipping at full scale. Nothing here normalises a peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from avdata.audio.spec import AudioSpec
from avdata.audio.spectrograms import fit_samples
from avdata.errors import SettingsError
from stages.generation.inputs import Sound

if TYPE_CHECKING:
    from numpy.typing import NDArray


def amplitude(gain_db: float) -> float:
    """Return the factor 10^(g / 20) of a gain in decibels; -inf is 0."""
    return float(10 ** (gain_db / 20))


def fit(sound: Sound, spec: AudioSpec) -> NDArray[np.float32]:
    """Return the sound [n_samples] as the front-end wants it: cut, or tiled until long enough.

    Raises SettingsError if it is at another sample rate.
    """
    if sound.rate_hz != spec.sample_rate_hz:
        raise SettingsError(
            f"{sound.name} is at {sound.rate_hz} Hz, the front-end {spec.name} hears "
            f"{spec.sample_rate_hz} Hz; read it with read_sound, or resample it"
        )
    return fit_samples(sound.samples, spec)


def mixed(fitted: Sequence[NDArray[np.float32]], gains: Sequence[float]) -> NDArray[np.float32]:
    """Return Σ gᵢ xᵢ, cut to [-1, 1], of fitted sounds [n_samples]; gains are factors.

    Raises ValueError unless there is one gain for each sound, and all are finite and 0 or more.
    """
    if len(fitted) != len(gains) or not fitted:
        raise ValueError(f"need one gain for each sound, got {len(gains)} for {len(fitted)}")
    if not all(np.isfinite(gain) and gain >= 0 for gain in gains):
        raise ValueError(f"gains must be finite and 0 or more, got {list(gains)}")
    total = sum((np.float32(g) * x for g, x in zip(gains, fitted, strict=True)), np.float32(0))
    return np.clip(np.asarray(total, np.float32), -1, 1)
