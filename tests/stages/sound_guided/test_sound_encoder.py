"""The sound encoder: sizes as published, any spectrogram, silence, and its front-ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avdata.audio import spectrograms
from avdata.audio.spec import SOUND_GUIDED, SOUND_GUIDED_RELATIVE
from stages.nn.frontend import Frontend
from stages.sound_guided.sound_encoder import Arch, SoundEncoder, audio_spec


@pytest.mark.parametrize(
    ("arch", "count"), [("swin_t", 27_910_010), ("resnet18", 11_439_198), ("tiny", 622_448)]
)
def test_parameters(arch: Arch, count: int) -> None:
    encoder = SoundEncoder(arch=arch)
    assert sum(p.numel() for p in encoder.parameters()) == count


@pytest.mark.parametrize("arch", ["resnet18", "tiny"])
def test_silence_and_any_size_are_heard(arch: Arch) -> None:
    torch.manual_seed(0)
    encoder = SoundEncoder(arch=arch, dim=6).eval()
    with torch.no_grad():
        for shape in ((1, 128, 96), SOUND_GUIDED.shape):
            heard = encoder(torch.zeros(2, *shape))
            assert heard.shape == (2, 6)
            assert heard.isfinite().all()


def test_what_is_no_224_px_is_resized_bilinearly() -> None:
    torch.manual_seed(0)
    encoder = SoundEncoder(arch="resnet18", dim=6).eval()
    small = torch.rand(1, 1, 128, 96)
    across, down = (np.clip((np.arange(224) + 0.5) * n / 224 - 0.5, 0, n - 1) for n in (96, 128))
    rows = np.stack([np.interp(across, np.arange(96), row) for row in small[0, 0].numpy()])
    seen = np.stack([np.interp(down, np.arange(128), column) for column in rows.T], axis=1)
    with torch.no_grad():
        expected = encoder(torch.tensor(seen, dtype=torch.float32)[None, None])
        torch.testing.assert_close(encoder(small), expected, rtol=1e-4, atol=1e-4)


def test_tiny_hears_where_a_pitch_is() -> None:
    """The same pattern in another band gives other features, at another time nearly the same."""
    torch.manual_seed(0)
    encoder = SoundEncoder(arch="tiny", dim=16).eval()
    low, high, late = (torch.zeros(1, 1, 128, 128) for _ in range(3))
    low[..., 16:32, 32:64] = high[..., 80:96, 32:64] = late[..., 16:32, 64:96] = 1
    with torch.no_grad():
        a, b, c = encoder(low), encoder(high), encoder(late)
    assert (a - b).norm() > 20 * (a - c).norm()


def test_samples_of_a_batch_do_not_meet_in_tiny() -> None:
    torch.manual_seed(0)
    encoder = SoundEncoder(arch="tiny", dim=4).train()
    x = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]))


def test_impossible_encoders() -> None:
    with pytest.raises(ValueError, match="arch must be one of swin_t"):
        SoundEncoder(arch="vit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width is of tiny alone"):
        SoundEncoder(arch="swin_t", width=8)
    with pytest.raises(ValueError, match="must be positive"):
        SoundEncoder(arch="tiny", dim=0)


# front-ends


def test_ten_seconds_are_the_published_front_ends() -> None:
    assert audio_spec() is SOUND_GUIDED
    assert audio_spec("relative") is SOUND_GUIDED_RELATIVE


def test_shorter_and_slower() -> None:
    spec = audio_spec(duration_s=2, sample_rate_hz=16_000)
    assert (spec.n_samples, spec.mel_high_hz, spec.n_frames) == (32_000, 8000, 64)
    assert spec.shape == SOUND_GUIDED.shape
    assert audio_spec("relative", duration_s=2, sample_rate_hz=16_000).db_reference is None
    with pytest.raises(ValueError, match="shorter than a window"):
        audio_spec(duration_s=0.01)


@pytest.mark.parametrize("reference", ["fixed", "relative"])
@pytest.mark.parametrize("amplitude", [0.0, 1e-9, 1.0])
def test_silence_and_clipped_sound_give_numbers(reference: str, amplitude: float) -> None:
    spec = audio_spec(reference, duration_s=0.5, sample_rate_hz=16_000)  # type: ignore[arg-type]
    square = amplitude * torch.sign(torch.sin(torch.arange(8000.0) / 9))[None]
    image = Frontend(spec)(square)
    assert image.isfinite().all()
    assert (image >= 0).all()
    assert (image <= 1).all()
    if amplitude == 0:
        assert not image.any()


def test_a_quieter_sound_is_a_quieter_picture_with_the_fixed_reference_alone() -> None:
    rng = np.random.default_rng(0)
    sound = (0.5 * rng.standard_normal(22_050)).clip(-1, 1).astype(np.float32)
    for reference, change in (("fixed", 20 / 80), ("relative", 0.0)):
        spec = audio_spec(reference, duration_s=0.5)  # type: ignore[arg-type]
        spec = replace(spec, resize_px=None, n_frames=None)
        loud, quiet = (spectrograms.features(a * sound, spec)[0] for a in (1.0, 0.1))
        np.testing.assert_allclose(loud - quiet, change, atol=2e-4)


def test_mel_decibels_are_those_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(1)
    sound = (0.3 * rng.standard_normal(SOUND_GUIDED.n_samples)).astype(np.float32)
    for spec, reference in ((SOUND_GUIDED, 1e4), (SOUND_GUIDED_RELATIVE, np.max)):
        plain = replace(spec, resize_px=None, n_frames=None)
        mel = librosa.feature.melspectrogram(y=sound, sr=44_100, n_mels=128)
        expected = librosa.power_to_db(mel, ref=reference, top_db=80) / 80 + 1
        expected = expected.clip(0)  # below the fixed reference, 80 dB are kept of it alone
        np.testing.assert_allclose(spectrograms.features(sound, plain)[0], expected, atol=1e-4)
