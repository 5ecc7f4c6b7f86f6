"""Stored sound and its resampling."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from avdata import audio
from avdata.errors import ClipError, Reason


@pytest.mark.parametrize("format", ["flac", "wav"])
@pytest.mark.parametrize("sample_rate_hz", [16000, 44100])
def test_round_trip_is_exact(format: Literal["flac", "wav"], sample_rate_hz: int) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    decoded, rate = audio.decode(audio.encode(samples, sample_rate_hz, format))
    np.testing.assert_array_equal(decoded, samples)
    assert rate == sample_rate_hz


def test_ffmpeg_hears_the_same_samples(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    path = tmp_path / "sound.flac"
    path.write_bytes(audio.encode(samples, 16000, "flac"))
    raw = subprocess.run(
        [get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-f", "s16le", "-"],
        capture_output=True,
        check=True,
    ).stdout
    np.testing.assert_array_equal(np.frombuffer(raw, "<i2"), samples)


@pytest.mark.parametrize("data", [b"", b"no sound at all", b"RIFF\0\0\0\0WAVE"])
def test_anything_else_is_corrupt(data: bytes) -> None:
    with pytest.raises(ClipError) as caught:
        audio.decode(data)
    assert caught.value.reason is Reason.CORRUPT


def test_float_is_in_minus_one_to_one() -> None:
    values = audio.to_float(np.array([-32768, 0, 16384, 32767], np.int16))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [-1, 0, 0.5, 32767 / 32768])


@pytest.mark.parametrize("hz", [100.0, 1000.0, 6000.0])
def test_resampling_keeps_a_tone(hz: float) -> None:
    at_44k, at_16k = (
        np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)
        for rate in (44100, 16000)
    )
    resampled = audio.resample(at_44k, 44100, 16000)
    assert resampled.dtype == np.float32
    assert resampled.shape == (16000,)
    np.testing.assert_allclose(resampled[500:-500], at_16k[500:-500], atol=0.01)


def test_resampling_removes_what_would_alias() -> None:
    # 10 kHz lies above half of 16 kHz and would come back as 6 kHz.
    above = np.sin(2 * np.pi * 10000 * np.arange(44100) / 44100).astype(np.float32)
    assert np.abs(audio.resample(above, 44100, 16000)[500:-500]).max() < 0.01
