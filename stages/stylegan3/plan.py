"""Which frequencies each layer of StyleGAN3 holds, on which grid: the paper's configuration T.

Karras et al., NeurIPS 2021, Section 3.2: with N layers, of which the last c are critically sampled,
and k(i) = min(i / (N - c), 1),

    f_c(i) = 2 (R / 4)^k                     cutoff, in cycles per picture
    f_t(i) = 2^2.1 (2^0.3 R / 2 / 2^2.1)^k   what the stopband has to begin at
    s(i) = 2^⌈log2 min(2 f_t, R)⌉            sampling rate
    f_h(i) = max(f_t, s / 2) - f_c           half of the transition band
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_CUTOFF = 2.0
FIRST_STOP, LAST_STOP = 2**2.1, 2**0.3
MARGIN_PX = 10  # on each side, beyond the picture's edge


@dataclass(frozen=True, slots=True)
class Band:
    """What a layer puts out: all of it per picture side."""

    cutoff: float
    half_width: float
    rate: int  # samples per side of the picture
    side: int  # samples, with the margin
    channels: int


def bands(
    resolution: int, *, layers: int = 14, critical: int = 2, base: int = 32768, most: int = 512
) -> list[Band]:
    """Return the bands of the layers 0 to `layers`, of which the last makes colours."""
    found = []
    last_cutoff, last_stop = resolution / 2, resolution / 2 * LAST_STOP
    for i in range(layers + 1):
        share = min(i / (layers - critical), 1.0)
        cutoff = FIRST_CUTOFF * (last_cutoff / FIRST_CUTOFF) ** share
        stop = FIRST_STOP * (last_stop / FIRST_STOP) ** share
        rate = 2 ** math.ceil(math.log2(min(2 * stop, resolution)))
        margin = 0 if i >= layers - 1 else 2 * MARGIN_PX
        channels = 3 if i == layers else min(round(base / 2 / cutoff), most)
        half_width = max(stop, rate / 2) - cutoff
        found.append(Band(cutoff, half_width, rate, rate + margin, channels))
    return found
