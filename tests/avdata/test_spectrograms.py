"""Audio front-ends against scipy, closed forms, pure tones and published vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, signal

from avdata.audio import spec as audio_spec
from avdata.audio import spectrograms
from avdata.audio.spec import AVSTYLE, LOCALIZER, SOUND2SCENE, SOUND_GUIDED, YAMNET, AudioSpec
from avdata.errors import SettingsError


def noise(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)


def tone(
    spec: AudioSpec, hz: float, amplitude: float = 0.5, n: int | None = None
) -> NDArray[np.float32]:
    at = np.arange(spec.n_samples if n is None else n) / spec.sample_rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * at)).astype(np.float32)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (SOUND2SCENE, (1, 257, 1004)),
        (replace(SOUND2SCENE, n_samples=80000), (1, 257, 500)),
        (replace(SOUND2SCENE, n_samples=16000), (1, 257, 98)),
        (AVSTYLE, (1, 257, 301)),
        (SOUND_GUIDED, (1, 224, 224)),
        (replace(SOUND_GUIDED, resize_px=None), (1, 128, 864)),
        (replace(SOUND_GUIDED, resize_px=None, n_frames=None), (1, 128, 862)),
        (YAMNET, (1, 64, 96)),
        (LOCALIZER, (1, 64, 998)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_published_shapes(spec: AudioSpec, shape: tuple[int, int, int]) -> None:
    image = spectrograms.features(noise(spec.n_samples), spec)
    assert image.shape == spec.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()


SILENCE = {  # of all others 0
    "yamnet": np.log(1e-3),
    **dict.fromkeys(("localizer", "avc"), np.log(1e-6)),
}


@pytest.mark.parametrize("spec", audio_spec.SPECS.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(1000, np.float32)])
def test_silence_is_what_exact_arithmetic_makes_of_it(
    spec: AudioSpec, samples: NDArray[np.float32]
) -> None:
    image = spectrograms.features(samples, spec)
    assert image.shape == spec.shape
    np.testing.assert_array_equal(image, np.float32(SILENCE.get(spec.name, 0)))


@pytest.mark.parametrize("level", [0.5, 0.1, -1, 3, 1e-41])
def test_sound2scene_hears_nothing_in_a_constant(level: float) -> None:
    # Each segment is taken about its mean: an even spectrogram, whose deviation is 0.
    samples = np.full(SOUND2SCENE.n_samples, level, np.float32)
    assert not spectrograms.features(samples, SOUND2SCENE).any()


def test_a_constant_next_to_the_mel_bands_does_not_leak_rounding_into_them() -> None:
    # A periodic Hann window reaches two bins of 400; at 512 its side lobes are -31 dB and below,
    # so that quiet bands show them, and not the rounding of the 0 Hz bin beside them.
    spec = replace(LOCALIZER, n_samples=400)
    at = np.arange(400)[:, None] * np.arange(257) / 512
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs((hann[:, None] * np.exp(-2j * np.pi * at)).sum(axis=0)) ** 2
    expected = np.log(spectrograms.mel_filters(spec).T @ power + 1e-6)
    found = spectrograms.features(np.ones(400, np.float32), spec)[0, :, 0]
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("spec", [SOUND2SCENE, AVSTYLE, YAMNET], ids=lambda s: s.name)
def test_sixteen_bit_sound_is_scaled(spec: AudioSpec) -> None:
    stored = np.random.default_rng(0).integers(-32768, 32768, 16000).astype(np.int16)
    np.testing.assert_array_equal(
        spectrograms.features(stored, spec),
        spectrograms.features(stored / np.float32(32768), spec),
    )


def test_sound2scene_is_scipys_spectrogram() -> None:
    samples = noise(160000) + tone(SOUND2SCENE, 440)
    _, _, power = signal.spectrogram(
        samples.astype(np.float64), 16000, window=("tukey", 0.25), nperseg=512, noverlap=353
    )
    expected = np.log(power + 1e-7)
    expected = (expected - expected.mean()) / (expected.std() + 1e-9)
    np.testing.assert_allclose(
        spectrograms.features(samples, SOUND2SCENE)[0], expected, atol=1e-6, rtol=0
    )


def test_sound2scene_tiles_and_clips() -> None:
    second = 3 * tone(SOUND2SCENE, 1000, n=16000)
    by_hand = np.clip(np.concatenate([second] * 10), -1, 1)
    np.testing.assert_array_equal(
        spectrograms.features(second, SOUND2SCENE), spectrograms.features(by_hand, SOUND2SCENE)
    )


def test_sound2scene_hears_volume() -> None:
    samples = noise(160000)
    loud, quiet = (spectrograms.features(samples * g, SOUND2SCENE) for g in (1, 0.01))
    assert np.abs(loud - quiet).mean() > 0.05


def test_avstyle_magnitude_of_a_tone_is_half_its_windows_sum() -> None:
    # A sine on bin k: |X[k]| = amplitude / 2 * sum(window); a periodic Hann of 400 sums to 200.
    spec = replace(AVSTYLE, peak_headroom=None)
    image = spectrograms.features(tone(spec, 32 * 16000 / 512, amplitude=0.5), spec)[0]
    assert set(image[:, 5:-5].argmax(axis=0)) == {32}
    np.testing.assert_allclose(image[32, 5:-5], 0.5 / 2 * 200, rtol=1e-3)


def test_avstyle_is_a_centred_reflected_stft() -> None:
    spec = replace(AVSTYLE, peak_headroom=None)
    samples = noise(48000)
    padded = np.concatenate([samples[256:0:-1], samples, samples[-2:-258:-1]]).astype(np.float64)
    window = np.zeros(512)
    window[56:456] = np.hanning(401)[:400]
    columns = [np.abs(np.fft.rfft(padded[s : s + 512] * window)) for s in range(0, 48001, 160)]
    np.testing.assert_allclose(
        spectrograms.features(samples, spec)[0], np.stack(columns, axis=1), atol=1e-4
    )


def test_avstyle_normalises_the_peak_before_gain() -> None:
    samples = noise(48000)
    fitted = spectrograms.fit_samples(samples, AVSTYLE)
    assert np.abs(fitted).max() == pytest.approx(1 / 1.1, rel=1e-6)
    np.testing.assert_allclose(
        spectrograms.spectrogram(0.25 * fitted, AVSTYLE),
        0.25 * spectrograms.spectrogram(fitted, AVSTYLE),
        rtol=1e-4,
        atol=1e-6,
    )


def test_sound_guided_full_scale_tone_is_near_the_top_and_20_db_is_a_quarter() -> None:
    spec = replace(SOUND_GUIDED, resize_px=None)
    loud, quiet = (
        spectrograms.features(tone(spec, 1000, amplitude), spec)[0] for amplitude in (1.0, 0.1)
    )
    assert 0.9 < loud.max() < 1
    # 20 dB of the 80 dB that span [0, 1].
    assert loud[:, 10:-10].max() - quiet[:, 10:-10].max() == pytest.approx(0.25, abs=1e-3)
    # 1 kHz is 15 Slaney mels; 128 bands share mel(22050) = 15 + 27 ln(22.05) / ln(6.4) = 60.
    assert loud[:, 400].argmax() == round(15 / (15 + 27 * np.log(22.05) / np.log(6.4)) * 129) - 1
    assert (loud[:, 862:] == 0).all()


def test_sound_guided_relative_erases_the_level() -> None:
    samples = noise(441000)
    relative = audio_spec.SOUND_GUIDED_RELATIVE
    image = spectrograms.features(samples, replace(relative, resize_px=None))
    assert image.max() == 1
    np.testing.assert_allclose(
        spectrograms.features(samples, relative),
        spectrograms.features(0.1 * samples, relative),
        atol=1e-4,
    )


def test_resize_is_bilinear_between_pixel_centres() -> None:
    spec = replace(SOUND_GUIDED, resize_px=None)
    samples = noise(441000)
    image = spectrograms.features(samples, spec)[0].astype(np.float64)
    rows = (np.arange(224) + 0.5) * 128 / 224 - 0.5
    columns = (np.arange(224) + 0.5) * 864 / 224 - 0.5
    expected = ndimage.map_coordinates(
        image, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest"
    )
    np.testing.assert_allclose(spectrograms.features(samples, SOUND_GUIDED)[0], expected, atol=1e-5)


def test_slaney_filters_have_unit_area_and_htk_filters_unit_height() -> None:
    slaney = spectrograms.mel_filters(SOUND_GUIDED)
    # Narrow low bands are sampled by three or four bins only, wide ones well.
    np.testing.assert_allclose(slaney[:, 60:].sum(axis=0) * 44100 / 2048, 1, rtol=0.03)
    htk = spectrograms.mel_filters(YAMNET)
    assert (htk.max(axis=0) <= 1).all()
    # Neighbouring triangles of height 1 add up to 1 between the first and the last centre.
    inside = htk[16:200].sum(axis=1)
    np.testing.assert_allclose(inside, 1, rtol=1e-5)


@pytest.mark.parametrize("spec", [SOUND_GUIDED, YAMNET, LOCALIZER], ids=lambda s: s.name)
def test_no_mel_band_is_empty(spec: AudioSpec) -> None:
    assert (spectrograms.mel_filters(spec).sum(axis=0) > 0).all()


def test_yamnet_front_end_against_a_published_vector(shared_data: Path) -> None:
    folder = shared_data / "weights/yamnet"
    pcm = np.fromfile(folder / "coral_yamnet_test_audio.bin", np.int16)
    expected = np.fromfile(folder / "coral_yamnet_test_spectra.bin", np.float32).reshape(96, 64)
    # That vector was made of peak-normalised sound with an offset of 0.01.
    spec = replace(YAMNET, peak_headroom=1.0, log_offset=0.01)
    np.testing.assert_allclose(
        spectrograms.features(pcm.astype(np.float32), spec)[0].T, expected, atol=1e-4
    )


def test_yamnet_front_end_feeds_the_spectrogram_model(shared_data: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    folder = shared_data / "weights/yamnet"
    pcm = np.fromfile(folder / "coral_yamnet_test_audio.bin", np.int16)
    spec = replace(YAMNET, peak_headroom=1.0, log_offset=0.01)
    interpreter = Interpreter(model_path=str(folder / "yamnet_spectra_in.tflite"))
    interpreter.allocate_tensors()
    image = spectrograms.features(pcm.astype(np.float32), spec).transpose(0, 2, 1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(image))
    interpreter.invoke()
    scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    assert scores.argmax() == 0  # Speech
    assert scores[0] > 0.9


def test_localizer_finds_a_tone_in_its_band() -> None:
    image = spectrograms.features(tone(LOCALIZER, 1000), LOCALIZER)[0]
    low, high, at = (2595 * np.log10(1 + hz / 700) for hz in (60, 7800, 1000))
    expected = (at - low) / (high - low) * 65 - 1
    assert abs(image[:, 500].argmax() - expected) <= 0.5


@pytest.mark.parametrize("spec", audio_spec.SPECS.values(), ids=lambda s: s.name)
def test_json_round_trip(spec: AudioSpec) -> None:
    assert AudioSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "text", ["", "[]", '{"name": "x"}', YAMNET.to_json().replace('"hop": 160', '"hop": "160"')]
)
def test_bad_json_is_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError, match="audio front-end"):
        AudioSpec.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"hop": 0},
        {"window_length": 600},
        {"n_samples": 100},
        {"n_mels": 0},
        {"mel_high_hz": 9000.0},
    ],
)
def test_impossible_specs_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="yamnet"):
        replace(YAMNET, **change)


def test_mismatch_names_every_difference() -> None:
    found = replace(SOUND2SCENE, hop=160, log_offset=1e-6)
    with pytest.raises(SettingsError) as caught:
        audio_spec.require_same(SOUND2SCENE, found, "the checkpoint last.pt")
    message = str(caught.value)
    assert "the checkpoint last.pt" in message
    assert "hop is 160, expected 159" in message
    assert "log_offset is 1e-06, expected 1e-07" in message
    audio_spec.require_same(SOUND2SCENE, replace(SOUND2SCENE, name="renamed"), "a checkpoint")


def test_unfitted_sound_is_refused() -> None:
    with pytest.raises(ValueError, match="fit_samples"):
        spectrograms.spectrogram(noise(100), YAMNET)
