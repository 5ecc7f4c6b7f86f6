"""How loud a clip is, and how much of it is silent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from avdata.taggers.base import Sample, Tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOUDNESS_FLOOR_LUFS = -70.0
"""BS.1770's absolute gate: what is quieter counts as silence, whose loudness would be -inf."""
PEAK_FLOOR_DBFS = -96.0
"""Stands for the peak of digital silence; the quietest other peak of 16 bits is -90.3."""
BLOCK_S = 0.4
SILENCE_FRAME_S = 0.05


class Loudness:
    """Integrated loudness and sample peak."""

    names: ClassVar[tuple[str, ...]] = ("loudness_lufs", "peak_dbfs")

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def tag(self, sample: Sample) -> Tags:
        if not sample.has_sound:
            return Tags()
        peak = float(np.abs(sample.samples).max())
        return Tags(
            {
                "loudness_lufs": loudness_lufs(sample.samples, sample.sample_rate_hz),
                "peak_dbfs": 20 * math.log10(peak) if peak else PEAK_FLOOR_DBFS,
            }
        )


def loudness_lufs(samples: NDArray[np.float32], sample_rate_hz: int) -> float:
    """Return the integrated loudness of mono sound [n] in LUFS, at least -70 (ITU-R BS.1770-4).

    Sound shorter than the standard's 400 ms block is measured as one block of its own length.
    """
    import pyloudnorm

    if not samples.any():
        return LOUDNESS_FLOOR_LUFS
    # A hair below the length, lest rounding makes the block longer than the sound.
    block_s = min(BLOCK_S, len(samples) / sample_rate_hz * (1 - 1e-9))
    meter = pyloudnorm.Meter(sample_rate_hz, block_size=block_s)
    loudness = float(meter.integrated_loudness(samples.astype(np.float64)))
    return max(loudness, LOUDNESS_FLOOR_LUFS)


class Silence:
    """The share of 50 ms frames whose RMS level is below a threshold."""

    names: ClassVar[tuple[str, ...]] = ("silence_share",)

    def __init__(self, threshold_dbfs: float) -> None:
        self._threshold_dbfs = threshold_dbfs

    def fingerprint(self) -> dict[str, Any]:
        return {"silence_dbfs": self._threshold_dbfs}

    def tag(self, sample: Sample) -> Tags:
        if not sample.has_sound:
            return Tags()
        length = max(1, round(SILENCE_FRAME_S * sample.sample_rate_hz))
        starts = np.arange(0, len(sample.samples), length)
        energy = np.add.reduceat(np.square(sample.samples, dtype=np.float64), starts)
        power = energy / np.diff(starts, append=len(sample.samples))
        silent = power < 10 ** (self._threshold_dbfs / 10)
        return Tags({"silence_share": float(silent.mean())})
