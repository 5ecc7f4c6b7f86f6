"""The front-ends in torch against those in numpy, and against scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import signal

from avdata.audio import spec as audio_spec
from avdata.audio import spectrograms
from avdata.audio.spec import AVSTYLE, LOCALIZER, SOUND2SCENE, AudioSpec
from stages.nn.frontend import Frontend

LOCALIZER_1S = replace(LOCALIZER, name="localizer_1s", n_samples=16000)
ROUNDING = {"atol": 1e-6, "rtol": 1e-6}  # of the results themselves, to float32
SPECS = [*audio_spec.SPECS.values(), LOCALIZER_1S]


def sounds(n: int, rate_hz: int) -> np.ndarray:
    """Loud noise, faint noise, a tone that clips, a click: float32 [4, n]."""
    rng = np.random.default_rng(0)
    t = np.arange(n) / rate_hz
    click = np.zeros(n)
    click[n // 3] = 0.9
    rows = np.stack([np.zeros(n), np.zeros(n), 1.5 * np.sin(2 * np.pi * 440 * t), click])
    noise = rng.normal(0, 1, (4, n)) * np.array([[0.2], [0.02], [0.1], [0.003]])
    return (rows + noise).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize("share", [0.3, 1.0, 1.2])
def test_equals_the_numpy_front_end(spec: AudioSpec, share: float) -> None:
    sound = sounds(round(share * spec.n_samples), spec.sample_rate_hz)
    found = Frontend(spec)(torch.from_numpy(sound))
    assert found.shape == (4, *spec.shape)
    assert found.dtype == torch.float32
    for row, image in zip(sound, found, strict=True):
        np.testing.assert_allclose(image, spectrograms.features(row, spec), **ROUNDING)


HARD = {
    "no sound": lambda at: at[:0],
    "silence": lambda at: 0 * at,
    "one sample": lambda at: 0.3 + at[:1],
    "one sample of silence": lambda at: at[:1],
    "two samples": lambda at: 0.3 - 0.6 * at[:2],
    "a stretch shorter than any window": lambda at: np.sin(at[:100]),
    "constant": lambda at: 0 * at + 0.1,
    "least value": lambda at: 0 * at - 1,
    "beyond full scale": lambda at: 0 * at + 3,
    "a click": lambda at: at == len(at) // 2,
    "a click at the start": lambda at: at == 0,
    "a click of one step of 16 bits": lambda at: (at == len(at) // 3) / 32768,
    "two steps of 16 bits": lambda at: (at % 7 - 3).clip(-1, 1) / 32768,
    "subnormal": lambda at: 1e-41 * np.sin(at),
    "a bare tone": lambda at: np.sin(0.1 * at),
    "half the sampling rate": lambda at: 1 - 2 * (at % 2),
    "a jump": lambda at: 0.9 * np.sign(at - len(at) / 2),
    "half of it silence": lambda at: np.sin(at**1.1) * (at < len(at) / 2),
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize("make", HARD.values(), ids=HARD)
def test_equals_the_numpy_front_end_where_rounding_could_show(
    spec: AudioSpec, make: Callable[[np.ndarray], np.ndarray]
) -> None:
    sound = make(np.arange(min(spec.n_samples, 48000), dtype=np.float64)).astype(np.float32)
    found = Frontend(spec)(torch.from_numpy(sound)[None])[0].numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, spectrograms.features(sound, spec), **ROUNDING)


def test_sound2scene_is_scipys_spectrogram() -> None:
    sound = sounds(160000, 16000)[0]
    _, _, power = signal.spectrogram(
        sound.astype(np.float64), 16000, window=("tukey", 0.25), nperseg=512, noverlap=353
    )
    expected = np.log(power + 1e-7)
    expected = (expected - expected.mean()) / (expected.std() + 1e-9)
    found = Frontend(SOUND2SCENE)(torch.from_numpy(sound)[None])[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_localizer_log_mel_is_scipys_power_in_bands() -> None:
    sound = sounds(16000, 16000)[0]
    # One-sided spectrum: scipy doubles all but the ends, which a power per bin does not.
    window = signal.get_window("hann", 400)
    _, _, power = signal.spectrogram(
        sound.astype(np.float64), 16000, window, 400, 240, 512, detrend=False, scaling="spectrum"
    )
    power *= window.sum() ** 2
    power[1:-1] /= 2
    hz = np.arange(257) * 16000 / 512
    mel = 2595 * np.log10(1 + hz / 700)
    edges = np.linspace(*(2595 * np.log10(1 + np.array([60.0, 7800.0]) / 700)), 66)
    bands = np.stack(
        [np.interp(mel, edges[i : i + 3], [0, 1, 0], left=0, right=0) for i in range(64)]
    )
    found = Frontend(LOCALIZER_1S)(torch.from_numpy(sound)[None])[0, 0]
    np.testing.assert_allclose(found, np.log(bands @ power + 1e-6), atol=1e-6)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_silence_is_even_and_finite(spec: AudioSpec) -> None:
    image = Frontend(spec)(torch.zeros(2, 1000))
    assert torch.isfinite(image).all()
    assert image.max() == image.min()
    if spec.standardise:
        assert image.max() == 0


def test_sixteen_bit_sound_is_scaled() -> None:
    sound = sounds(16000, 16000)[:1]
    stored = np.round(sound * 32768).clip(-32768, 32767).astype(np.int16)
    frontend = Frontend(LOCALIZER_1S)
    torch.testing.assert_close(
        frontend(torch.from_numpy(stored)), frontend(torch.from_numpy(stored / np.float32(32768)))
    )


def test_autocast_does_not_reach_it_and_checkpoints_do_not_hold_it() -> None:
    sound = torch.from_numpy(sounds(16000, 16000))
    frontend = Frontend(LOCALIZER_1S)
    with torch.autocast("cpu", torch.bfloat16):
        inside = frontend(sound)
    assert torch.equal(inside, frontend(sound))
    assert not frontend.state_dict()


def test_gain_after_peak_normalisation_is_heard() -> None:
    frontend = Frontend(AVSTYLE)
    fitted = frontend.fit_samples(torch.from_numpy(sounds(48000, 16000)))
    torch.testing.assert_close(fitted.abs().amax(dim=1), torch.full((4,), 1 / 1.1))
    torch.testing.assert_close(
        frontend.spectrogram(0.25 * fitted), 0.25 * frontend.spectrogram(fitted)
    )
