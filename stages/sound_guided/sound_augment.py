"""Sounds heard a little otherwise, for the pair a ↔ â of learning without labels.

The paper takes SpecAugment of the spectrogram for â and names no change of the waveform; these are
this project's choice, and come before it: a shift in time, noise, a change of level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdata.strict import setting
from stages.engine import torchaudio_guard
from stages.engine.settings import bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundAugmentSettings:
    """How far a sound is changed."""

    shift: float = setting(
        0.1, "Farthest that it is moved in time, as a share of its length; what leaves comes in."
    )
    noise_chance: float = setting(0.5, "Share of sounds that get white noise.")
    min_snr_db: float = setting(15.0, "Loudest noise, as signal over noise in dB.")
    max_snr_db: float = setting(40.0, "Quietest noise, as signal over noise in dB.")
    gain_db: float = setting(
        0.0, "Largest change of level, in dB up or down; more than 0 teaches to ignore loudness."
    )

    def __post_init__(self) -> None:
        for name in ("shift", "noise_chance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        bounded(self, "min_snr_db", "max_snr_db")
        bounded(self, "gain_db", least=0)
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(
                f"min_snr_db ({self.min_snr_db}) must not exceed max_snr_db ({self.max_snr_db})"
            )


class SoundAugment:
    """Waveforms float32 [B, samples] in [-1, 1] → the same shape, each changed on its own."""

    def __init__(self, settings: SoundAugmentSettings | None = None) -> None:
        torchaudio_guard.install()
        self.settings = settings or SoundAugmentSettings()

    def __call__(self, waves: Tensor, generator: torch.Generator) -> Tensor:
        """Return the changed sounds, kept in [-1, 1]; silence stays silent.

        generator: on their device; the result depends on nothing else.
        """
        from torchaudio import functional as sound

        s, n = self.settings, waves.shape[1]
        draws = torch.rand(4, len(waves), generator=generator, device=waves.device)
        # Row by row: a table of places for a batch of ten seconds is larger than the batch.
        shifts = ((2 * draws[0] - 1) * s.shift * n).round().long().tolist()
        changed = torch.stack([wave.roll(by) for wave, by in zip(waves, shifts, strict=True)])

        noisy = (draws[2] < s.noise_chance).nonzero().flatten()
        noise = torch.randn(len(noisy), n, generator=generator, device=waves.device)
        snr_db = s.min_snr_db + (s.max_snr_db - s.min_snr_db) * draws[1]
        changed[noisy] = sound.add_noise(changed[noisy], noise, snr_db[noisy])

        gain_db = (2 * draws[3] - 1) * s.gain_db
        return (changed * (10 ** (gain_db / 20))[:, None]).clamp(-1, 1)
