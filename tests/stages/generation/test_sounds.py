"""Volume and mixing, against sums by hand and SciPy's spectrogram."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from avdata.audio.spectrograms import spectrogram
from avdata.errors import SettingsError
from stages.generation.inputs import Sound
from stages.generation.sounds import amplitude, clipped_share, fit, mixed
from tests.stages.tiny_scenes import RATE_HZ, SPEC, tone


def heard(samples: np.ndarray) -> np.ndarray:
    """Sound2Scene's front-end by SciPy in float64, [257, frames]."""
    _, _, power = signal.spectrogram(
        np.clip(samples.astype(np.float64), -1, 1),
        RATE_HZ,
        window=("tukey", 0.25),
        nperseg=512,
        noverlap=353,
    )
    image = np.log(power + 1e-7)
    return (image - image.mean()) / (image.std() + 1e-9)


def test_decibels() -> None:
    assert amplitude(0) == 1
    assert amplitude(20) == pytest.approx(10)
    assert amplitude(-6.0206) == pytest.approx(0.5, rel=1e-6)
    assert amplitude(float("-inf")) == 0


def test_a_recording_that_was_cut_off_is_known() -> None:
    wave = 2 * np.sin(np.arange(16_000) / 50)
    cut = np.clip(wave, -1, 32767 / 32768).astype(np.float32)
    share = clipped_share(Sound("loud", cut, RATE_HZ))
    assert share == pytest.approx(2 / 3, abs=0.01)  # |sin| is above one half
    assert clipped_share(Sound("soft", cut / 2, RATE_HZ)) == 0
    assert clipped_share(Sound("louder", cut, RATE_HZ, fitted=True)) == 0
    assert clipped_share(Sound("none", cut[:0], RATE_HZ)) == 0


def test_a_mix_is_the_sum_with_gains_cut_at_full_scale() -> None:
    a = np.array([0.5, -0.5, 0.25, 1.0], np.float32)
    b = np.array([0.25, -0.75, 0.5, 0.5], np.float32)
    np.testing.assert_array_equal(
        mixed([a, b], [1.0, 1.0]), np.array([0.75, -1.0, 0.75, 1.0], np.float32)
    )
    np.testing.assert_array_equal(mixed([a, b], [1.0, 0.0]), a)
    assert mixed([a, b], [0.5, 0.5]).dtype == np.float32


@pytest.mark.parametrize("gains", [[1.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_gains_that_make_no_sense(gains: list[float]) -> None:
    sound = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="gain"):
        mixed([sound, sound], gains)


def test_a_short_sound_is_tiled_and_keeps_its_level() -> None:
    short = tone(440, seconds=0.1, level=0.05)
    fitted = fit(Sound("a", short, RATE_HZ), SPEC)
    np.testing.assert_array_equal(fitted, np.tile(short, 5))


def test_another_rate_is_another_front_end() -> None:
    with pytest.raises(SettingsError, match=r"44100 Hz.*hears 16000 Hz"):
        fit(Sound("a", tone(440), 44_100), SPEC)


@pytest.mark.parametrize("gain", [0.01, 1.0, 20.0])
def test_volume_reaches_the_network_through_floor_and_clipping_alone(gain: float) -> None:
    sound = tone(880)
    seen = spectrogram(mixed([sound], [gain]), SPEC)[0]
    np.testing.assert_allclose(seen, heard(gain * sound), atol=2e-3)


def test_without_the_floor_there_would_be_no_volume() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(SPEC.n_samples).astype(np.float32)
    bare = replace(SPEC, log_offset=1e-30)
    loud, soft = (mixed([noise], [gain]) for gain in (1.0, 0.01))
    np.testing.assert_allclose(spectrogram(loud, bare), spectrogram(soft, bare), atol=2e-3)
    assert np.abs(spectrogram(loud, SPEC) - spectrogram(soft, SPEC)).mean() > 0.1
