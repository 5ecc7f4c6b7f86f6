"""Volume and mixing, where they belong: after the sound is fitted, before the spectrogram.

Some front-ends normalise the peak when they fit a sound; a gain before that would cancel out, and
so would one after it if the sound were fitted again. So what is made here says that it is `fitted`.
Sound2Scene's front-end standardises every clip, so a change of level survives only through the
floor of its logarithm (1e-7) and the clipping at full scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from avdata.audio.spec import AudioSpec
from avdata.audio.spectrograms import fit_samples
from avdata.errors import SettingsError
from stages.generation.inputs import Sound

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SCALE = 0.999  # of 1: from here on a sample counts as cut off


def clipped_share(sound: Sound) -> float:
    """Return the share of a recording's samples that lie at full scale, where it was cut off.

    0 for a sound that is fitted: its level was set since, and tells nothing of the recording.
    """
    if sound.fitted or not len(sound.samples):
        return 0.0
    return float((np.abs(sound.samples) >= FULL_SCALE).mean())


def amplitude(gain_db: float) -> float:
    """Return the factor 10^(g / 20) of a gain in decibels; -inf is 0."""
    return float(10 ** (gain_db / 20))


def spoken(gain_db: float) -> str:
    """Return a gain as it is written in titles: "+6 dB", "0 dB", or "silence"."""
    if gain_db == -math.inf:
        return "silence"
    return f"{gain_db:+g} dB" if gain_db else "0 dB"


def fit(sound: Sound, spec: AudioSpec) -> NDArray[np.float32]:
    """Return the sound [n_samples] as the front-end wants it: cut, or tiled until long enough.

    Its peak is normalised if the front-end says so. A sound that is fitted stays as it is. Raises
    SettingsError if it is at another sample rate, and ValueError if it is fitted to another length.
    """
    if sound.rate_hz != spec.sample_rate_hz:
        raise SettingsError(
            f"{sound.name} is at {sound.rate_hz} Hz, the front-end {spec.name} hears "
            f"{spec.sample_rate_hz} Hz; read it with read_sound, or resample it"
        )
    if sound.fitted and len(sound.samples) != spec.n_samples:
        raise ValueError(
            f"{sound.name} is fitted to {len(sound.samples)} samples, the front-end {spec.name} "
            f"hears {spec.n_samples}"
        )
    return sound.samples if sound.fitted else fit_samples(sound.samples, spec)


def mixed(
    fitted: Sequence[NDArray[np.float32]], gains: Sequence[float], *, clip: bool = True
) -> NDArray[np.float32]:
    """Return Σ gᵢ xᵢ of fitted sounds [n_samples]; gains are factors.

    clip: cut to [-1, 1], for front-ends that do. Raises ValueError unless there is one gain for
    each sound, and all are finite and 0 or more.
    """
    if len(fitted) != len(gains) or not fitted:
        raise ValueError(f"need one gain for each sound, got {len(gains)} for {len(fitted)}")
    if not all(np.isfinite(gain) and gain >= 0 for gain in gains):
        raise ValueError(f"gains must be finite and 0 or more, got {list(gains)}")
    parts = (np.float32(gain) * x for gain, x in zip(gains, fitted, strict=True))
    total = np.asarray(sum(parts, np.float32(0)), np.float32)
    return np.clip(total, -1, 1) if clip else total


def together(
    sounds: Sequence[Sound], gains: Sequence[float], spec: AudioSpec, name: str | None = None
) -> Sound:
    """Return Σ gᵢ xᵢ as a fitted sound, each xᵢ fitted by itself first; gains are factors.

    name: else the sounds' own, joined by a plus. Raises as `fit` and `mixed` do.
    """
    samples = mixed([fit(sound, spec) for sound in sounds], gains, clip=spec.clip)
    joined = " + ".join(sound.name for sound in sounds)
    return Sound(name or joined, samples, spec.sample_rate_hz, fitted=True)
