"""The audio front-ends in numpy: from mono sound to what a model sees, as its `AudioSpec` says.

    fit to n_samples -> (normalise the peak) -> (clip) -> spectrum -> (mel bands) -> (log)
    -> (standardise) -> (fit to n_frames) -> (resize)

Volume edits and mixes belong between `fit_samples` and `spectrogram`: after the peak was normalised
and before anything else, or they would cancel out.

Everything after `fit_samples` is computed in float64, here and in stages/nn/frontend.py: the
logarithm of a band next to a loud one, and the deviation of a nearly even spectrogram, would
otherwise hold each implementation's own rounding errors.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from avdata import audio
from avdata.audio.spec import AudioSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


def features(samples: NDArray[np.float32 | np.int16], spec: AudioSpec) -> NDArray[np.float32]:
    """Return what the model sees, float32 `spec.shape`, of mono sound [n] in [-1, 1) or int16.

    The sound must be at the rate of the spec already (see audio.resample); none at all counts as
    silence.
    """
    return spectrogram(fit_samples(samples, spec), spec)


def fit_samples(samples: NDArray[np.float32 | np.int16], spec: AudioSpec) -> NDArray[np.float32]:
    """Return the sound [n_samples]: cut or filled up, its peak normalised if the spec says so."""
    if samples.dtype == np.int16:
        samples = audio.to_float(samples.astype(np.int16, copy=False))
    fitted = np.zeros(spec.n_samples, np.float32)
    if len(samples):
        source = samples
        if spec.fill == "tile":
            source = np.tile(samples, -(-spec.n_samples // len(samples)))
        kept = source[: spec.n_samples]
        fitted[: len(kept)] = kept
    peak = np.abs(fitted).max()
    if spec.peak_headroom is not None and peak > 0:
        fitted /= np.float32(spec.peak_headroom) * peak
    return fitted


def spectrogram(samples: NDArray[np.float32], spec: AudioSpec) -> NDArray[np.float32]:
    """Return float32 `spec.shape` of fitted sound [n_samples]."""
    if samples.shape != (spec.n_samples,):
        raise ValueError(f"{spec.name} needs sound of shape ({spec.n_samples},): use fit_samples")
    if spec.clip:
        samples = np.clip(samples, -1, 1)
    image: NDArray[np.float64] = _spectrum(samples.astype(np.float64), spec)  # [bands, frames]
    if spec.mel != "none":
        image = mel_filters(spec).T @ image
    if spec.log == "natural":
        image = np.log(image + spec.log_offset)
    elif spec.log == "decibel":
        image = _decibels(image, spec)
    if spec.standardise:
        image = _standardised(image)
    if spec.n_frames is not None:
        fitted = np.zeros((len(image), spec.n_frames))
        kept = image[:, : spec.n_frames]
        fitted[:, : kept.shape[1]] = kept
        image = fitted
    if spec.resize_px is not None:
        rows = _bilinear(image.shape[0], spec.resize_px)
        columns = _bilinear(image.shape[1], spec.resize_px)
        image = rows @ image @ columns.T
    return np.ascontiguousarray(image[np.newaxis], np.float32)


def _spectrum(samples: NDArray[np.float64], spec: AudioSpec) -> NDArray[np.float64]:
    """Return the magnitude, power or power spectral density, [n_fft // 2 + 1, frames]."""
    taper = window(spec)
    if spec.edges != "none":
        samples = np.pad(
            samples, spec.n_fft // 2, "reflect" if spec.edges == "reflect" else "constant"
        )
    segments = np.lib.stride_tricks.sliding_window_view(samples, len(taper))[:: spec.hop]
    if spec.quantity == "density":
        segments = segments - segments.mean(axis=1, keepdims=True)
    spectrum: NDArray[np.float64] = np.abs(fft.rfft(segments * taper, spec.n_fft, axis=1)).T
    if spec.quantity == "magnitude":
        return spectrum
    power: NDArray[np.float64] = np.square(spectrum)
    if spec.quantity == "density":
        power /= spec.sample_rate_hz * np.square(taper).sum()
        power[1 : (spec.n_fft + 1) // 2] *= 2  # one-sided: all but 0 Hz and the Nyquist frequency
    return power


def _standardised(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (x - mean) / (std + 1e-9).

    Taken relative to one of its values, which changes nothing but the rounding: the spectrogram of
    silence becomes exactly 0, not its rounding errors divided by themselves.
    """
    image = image - image[0, 0]
    standardised: NDArray[np.float64] = (image - image.mean()) / (image.std() + 1e-9)
    return standardised


@cache
def window(spec: AudioSpec) -> NDArray[np.float64]:
    """Return the periodic window [segment], zeros around it up to n_fft unless edges is none."""
    from scipy.signal import get_window

    kind = ("tukey", 0.25) if spec.window == "tukey" else "hann"
    taper: NDArray[np.float64] = get_window(kind, spec.window_length)
    if spec.edges == "none":
        return taper
    before = (spec.n_fft - spec.window_length) // 2
    return np.pad(taper, (before, spec.n_fft - spec.window_length - before))


@cache
def mel_filters(spec: AudioSpec) -> NDArray[np.float64]:
    """Return the weights [n_fft // 2 + 1, n_mels] of triangular bands equally spaced in mels.

    htk: 2595 log10(1 + f / 700) mels, triangles over mels of height 1 (as TensorFlow and YAMNet).
    slaney: linear below 1 kHz and logarithmic above, triangles over Hz of area 1 (as librosa).
    """
    to_mel = _htk_mel if spec.mel == "htk" else _slaney_mel
    low, high = to_mel(np.array([spec.mel_low_hz, spec.mel_high_hz]))
    edges = np.linspace(low, high, spec.n_mels + 2)
    at_hz = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate_hz / spec.n_fft
    at = to_mel(at_hz) if spec.mel == "htk" else at_hz
    if spec.mel == "slaney":
        edges = _slaney_hz(edges)
    rising = (at[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at[:, None]) / (edges[2:] - edges[1:-1])
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    if spec.mel == "slaney":
        filters *= 2 / (edges[2:] - edges[:-2])
    return filters


def _htk_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2595 * np.log10(1 + hz / 700)


def _slaney_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """15 mels per 1000 Hz up to 1 kHz, then 27 per factor 6.4."""
    above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 15 / 1000, above)


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 1000 / 15, 1000 * 6.4 ** ((mel - 15) / 27))


def _decibels(power: NDArray[np.float64], spec: AudioSpec) -> NDArray[np.float64]:
    """Return 1 at the reference, 0 at db_range below it; silence is 0 whatever the reference."""
    loudest = float(power.max())
    if loudest == 0:
        return power
    reference = max(loudest if spec.db_reference is None else spec.db_reference, spec.log_offset)
    decibels = 10 * np.log10(np.maximum(power, spec.log_offset) / reference)
    clipped: NDArray[np.float64] = np.clip(1 + decibels / spec.db_range, 0, 1)
    return clipped


@cache
def _bilinear(from_px: int, to_px: int) -> NDArray[np.float64]:
    """Return the matrix [to_px, from_px] of linear interpolation between pixel centres."""
    at = np.clip((np.arange(to_px) + 0.5) * from_px / to_px - 0.5, 0, from_px - 1)
    left = np.minimum(np.floor(at).astype(int), from_px - 2)
    matrix = np.zeros((to_px, from_px))
    matrix[np.arange(to_px), left] = left + 1 - at
    matrix[np.arange(to_px), left + 1] = at - left
    return matrix
