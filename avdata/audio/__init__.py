"""Sound: encode, decode, resample. What models see of it is in spectrograms.py, as spec.py says.

Stored sound is mono int16; computation is float32 in [-1, 1).
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from avdata.errors import ClipError, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode(
    samples: NDArray[np.int16], sample_rate_hz: int, format: Literal["flac", "wav"]
) -> bytes:
    """Return mono int16 samples as a FLAC or WAV file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format=format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def decode(data: bytes) -> tuple[NDArray[np.int16], int]:
    """Return mono int16 samples and their rate in Hz from a FLAC or WAV file.

    Raises ClipError (corrupt) for anything else.
    """
    import soundfile

    try:
        samples, sample_rate_hz = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, ValueError, RuntimeError) as error:
        raise ClipError(Reason.CORRUPT, f"not readable sound: {error}") from None
    return np.ascontiguousarray(samples[:, 0]), int(sample_rate_hz)


def to_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return int16 samples as float32 in [-1, 1)."""
    return samples.astype(np.float32) / np.float32(32768)


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Return `samples` [n] at another rate, [ceil(n * to_hz / from_hz)], by a polyphase filter."""
    from scipy.signal import resample_poly

    common = math.gcd(from_hz, to_hz)
    resampled: NDArray[np.float32] = resample_poly(samples, to_hz // common, from_hz // common)
    return resampled.astype(np.float32, copy=False)
