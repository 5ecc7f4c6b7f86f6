"""What sound and localisation look like: spectrogram, envelope, heat map, small images.

All of it is for the eye; the front-ends that models hear through are in `avdata.audio`.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

WINDOW_S = 0.032
RANGE_DB = 75.0
QUIET_DB = -30.0  # of a full-scale sine; what stays below is drawn dark, not stretched
QUIET_PEAK = 0.05  # likewise for the waveform
N_BANDS = 128

# Lightness rises evenly from black over violet and orange to pale yellow (as in magma).
_ANCHORS = (
    (0.00, (2, 2, 12)),
    (0.13, (26, 16, 66)),
    (0.25, (79, 18, 122)),
    (0.38, (129, 37, 129)),
    (0.50, (181, 54, 121)),
    (0.63, (229, 80, 100)),
    (0.75, (250, 135, 97)),
    (0.88, (254, 193, 135)),
    (1.00, (252, 252, 196)),
)


def colormap() -> NDArray[np.uint8]:
    """Return 256 RGB colours from dark to light, interpolated between a few anchors."""
    places, colours = zip(*_ANCHORS, strict=True)
    channels = np.asarray(colours, np.float64).T
    x = np.linspace(0, 1, 256)
    return np.stack([np.interp(x, places, c) for c in channels], -1).round().astype(np.uint8)


def mel(frequency_hz: ArrayLike) -> NDArray[np.float64]:
    """Return frequencies on the mel scale, 2595 log10(1 + f/700) (O'Shaughnessy 1987)."""
    scaled = 2595.0 * np.log10(1.0 + np.asarray(frequency_hz, np.float64) / 700.0)
    return np.asarray(scaled, np.float64)


def mel_spectrogram_db(
    samples: NDArray[np.int16], sample_rate_hz: int, width: int
) -> NDArray[np.float64]:
    """Return a mel spectrogram [N_BANDS, width] in dB below its peak, from -RANGE_DB to 0.

    The reference is the peak, or QUIET_DB if that is louder, so that near silence looks like it.
    Row 0 is the lowest band; the bands are spaced evenly in mel from 0 Hz to half the rate.
    """
    n_fft = max(16, round(WINDOW_S * sample_rate_hz))
    signal = np.pad(samples.astype(np.float64) / 32768, n_fft // 2)
    starts = np.linspace(0, max(0, len(signal) - n_fft), width).round().astype(int)
    spans = np.lib.stride_tricks.sliding_window_view(signal, n_fft)[starts]
    power = np.abs(np.fft.rfft(spans * np.hanning(n_fft))) ** 2
    bands = mel_filters(n_fft, sample_rate_hz) @ power.T
    decibel = 10 * np.log10(np.maximum(bands, 1e-10))
    decibel -= 20 * np.log10(n_fft / 4)  # a full-scale sine under a Hann window is 0 dB
    peak = max(float(decibel.max()), QUIET_DB)
    return np.asarray(np.clip(decibel - peak, -RANGE_DB, 0.0), np.float64)


def mel_filters(n_fft: int, sample_rate_hz: int) -> NDArray[np.float64]:
    """Return triangular filters [N_BANDS, n_fft // 2 + 1] with peak 1, evenly spaced in mel."""
    bins = mel(np.fft.rfftfreq(n_fft, 1 / sample_rate_hz))
    edges = np.linspace(0, float(mel(sample_rate_hz / 2)), N_BANDS + 2)
    # Where the filters are narrower than the bins are apart, they are widened to meet one.
    half = np.maximum(edges[1] - edges[0], float(np.diff(bins).max()))
    return np.asarray(np.clip(1 - np.abs(bins - edges[1:-1, None]) / half, 0, 1), np.float64)


def spectrogram_image(
    samples: NDArray[np.int16], sample_rate_hz: int, width_px: int, height_px: int
) -> Image:
    """Return the mel spectrogram as a picture, high frequencies on top."""
    from PIL import Image

    decibel = mel_spectrogram_db(samples, sample_rate_hz, width_px)
    shade = ((decibel[::-1] / RANGE_DB + 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(colormap()[shade])
    return image.resize((width_px, height_px), Image.Resampling.BICUBIC)


def envelope(samples: NDArray[np.int16], columns: int) -> NDArray[np.float64]:
    """Return the lowest and highest value per column, [columns, 2], the peak scaled to 1.

    A sound that never reaches QUIET_PEAK is scaled by that instead, so that it stays flat.
    """
    edges = np.linspace(0, len(samples), columns + 1).astype(int)
    spans = [samples[a : max(b, a + 1)] for a, b in pairwise(edges.tolist())]
    pairs = [(int(s.min()), int(s.max())) if len(s) else (0, 0) for s in spans]
    values = np.asarray(pairs, np.float64) / 32768
    return np.asarray(values / max(float(np.abs(values).max()), QUIET_PEAK), np.float64)


def heat_overlay(
    values: NDArray[np.float64], width_px: int, height_px: int, strength: float = 0.8
) -> Image:
    """Return a localisation map [height, width] as a translucent picture, opaque where it is high.

    The map is stretched to its own range; a constant map is wholly transparent.
    """
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    field = Image.fromarray(scaled.astype(np.float32)).resize(
        (width_px, height_px), Image.Resampling.BICUBIC
    )
    level = np.clip(np.asarray(field), 0, 1)
    colour = colormap()[(80 + level * 175).astype(np.uint8)]
    alpha = (np.clip(level * 1.4 - 0.35, 0, 1) * strength * 255).astype(np.uint8)
    return Image.fromarray(np.dstack([colour, alpha]), "RGBA")


def thumbnail(image: NDArray[np.uint8], side_px: int) -> Image:
    """Return the picture with its longer side at most `side_px`."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return picture


def encoded(image: Image, format: Literal["JPEG", "WEBP", "PNG"], quality: int = 78) -> bytes:
    """Return the picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, quality=quality, method=2)  # method: WebP's effort, 0 to 6
    return buffer.getvalue()
