"""Makes videos whose sound has many channels, or channels in an order of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.fetching import ffmpeg

RATE_HZ = 16000
SECONDS = 2

# Apple's channel layout tags whose order is not FFmpeg's own: the decoder then makes a map.
OWN_ORDERS = {
    "5.1": 124 << 16 | 6,  # MPEG 5.1 D: C L R Ls Rs LFE
    "6.1": 125 << 16 | 7,  # MPEG 6.1 A: L R C LFE Ls Rs Cs
    "7.1": 126 << 16 | 8,  # MPEG 7.1 A: L R C LFE Ls Rs Lc Rc
}


def noise(channels: int) -> NDArray[np.int16]:
    """Return [samples, channels]: each channel is different."""
    rng = np.random.default_rng(channels)
    return rng.integers(-9000, 9000, (SECONDS * RATE_HZ, channels), dtype=np.int16)


def write(
    path: Path, samples: NDArray[np.int16], layout: str = "", codec: str = "pcm_s16le"
) -> Path:
    """Write pictures and sound; `codec` may be followed by its options."""
    channels = ["-ch_layout", layout] if layout else ["-ac", str(samples.shape[1])]
    raw = path.with_suffix(".raw")
    raw.write_bytes(samples.tobytes())
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc=s=64x48:r=10:d={SECONDS}"),
        *("-f", "s16le", "-ar", str(RATE_HZ), *channels, "-i", str(raw)),
        *("-c:a", *codec.split(), "-pix_fmt", "yuv420p", str(path)),
    )
    return path


def in_own_order(folder: Path, layout: str) -> Path:
    """Write a MOV whose channels stand in an order that QuickTime knows and FFmpeg does not."""
    channels = OWN_ORDERS[layout] & 0xFFFF
    path = write(folder / f"{layout}.mov", noise(channels), layout)
    data = bytearray(path.read_bytes())
    at = data.index(b"chan") + 8  # after the name, version and flags
    data[at : at + 8] = OWN_ORDERS[layout].to_bytes(4, "big") + bytes(4)
    path.write_bytes(data)
    return path
