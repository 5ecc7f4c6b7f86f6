"""What hears: trained here and published, against the networks that their layouts are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.audio.spec import SOUND_GUIDED_RELATIVE
from avdata.errors import SettingsError, WeightsError
from stages.engine import torchaudio_guard
from stages.engine.checkpoint import ModelCard, save_weights
from stages.engine.errors import CheckpointError
from stages.nn.frontend import Frontend
from stages.sound_guided.embedder import MODEL, SoundEmbedder, load_embedder, require_space
from stages.sound_guided.published import WAV2CLIP
from stages.sound_guided.sound_encoder import SoundEncoder, audio_spec
from tests.stages.nn.test_swin import shaken

torchaudio_guard.install()

SPACE = {"extractor": "clip", "sha256": "1234" * 16, "sight": [32, True, "bicubic", 0.5]}
SETTINGS: dict[str, Any] = {"arch": "tiny", "dim": 6, "width": 4}


class Eye:
    """A text-image model that is only asked what it is."""

    def __init__(self, dim: int = 6, sha256: str = SPACE["sha256"]) -> None:  # type: ignore[assignment]
        self.name, self.dim, self.sha256 = "a small CLIP", dim, sha256

    def fingerprint(self) -> dict[str, Any]:
        return {**SPACE, "sight": (32, True, "bicubic", 0.5), "sha256": self.sha256}


def noise(n: int, seconds: float = 1.0, rate_hz: int = 16_000) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return 0.2 * torch.randn(n, round(seconds * rate_hz), generator=rng).clamp(-1, 1)


def save_trained(path: Path, **changed: Any) -> SoundEncoder:
    torch.manual_seed(0)
    encoder = SoundEncoder(**SETTINGS).eval()
    given = {
        "name": MODEL,
        "settings": SETTINGS,
        "audio": audio_spec(duration_s=1, sample_rate_hz=16_000),
        "features": {"name": "a small CLIP", "space": SPACE},
        **changed,
    }
    save_weights(path, encoder.state_dict(), ModelCard(**given).metadata())
    return encoder


# trained here


def test_a_training_s_own(tmp_path: Path) -> None:
    encoder = save_trained(tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        ear = load_embedder(path)
        assert isinstance(ear, SoundEmbedder)
        assert (ear.dim, ear.space_name, ear.space) == (6, "a small CLIP", SPACE)
        waves = noise(3)
        with torch.no_grad():
            expected = F.normalize(encoder(Frontend(ear.spec)(waves)), dim=1)
        torch.testing.assert_close(ear.embed(waves), expected)
        require_space(ear, Eye(), "this")


def test_shorter_and_silent_sounds(tmp_path: Path) -> None:
    save_trained(tmp_path / "model.safetensors")
    ear = load_embedder(tmp_path)
    short = noise(1, 0.5)
    filled = torch.cat([short, torch.zeros(1, 8000)], dim=1)
    torch.testing.assert_close(ear.embed(short), ear.embed(filled))
    assert ear.embed(torch.zeros(2, 16_000)).isfinite().all()


def test_fingerprints_tell_weights_apart(tmp_path: Path) -> None:
    encoder = save_trained(tmp_path / "one.safetensors")
    one = load_embedder(tmp_path / "one.safetensors").fingerprint()
    assert one == load_embedder(tmp_path / "one.safetensors").fingerprint()
    with torch.no_grad():
        encoder.head.bias.add_(1)
    card = ModelCard(
        name=MODEL,
        settings=SETTINGS,
        audio=audio_spec(duration_s=1, sample_rate_hz=16_000),
        features={"name": "a small CLIP", "space": SPACE},
    )
    save_weights(tmp_path / "two.safetensors", encoder.state_dict(), card.metadata())
    assert one != load_embedder(tmp_path / "two.safetensors").fingerprint()


def test_another_space_is_refused(tmp_path: Path) -> None:
    save_trained(tmp_path / "model.safetensors")
    ear = load_embedder(tmp_path)
    with pytest.raises(CheckpointError, match=r"gives 6 features.* has 8; .*aligned to, a small"):
        require_space(ear, Eye(dim=8), "manipulation")
    with pytest.raises(
        CheckpointError, match=r"another text-image model.*\(1234123412341234\) than"
    ):
        require_space(ear, Eye(sha256="0" * 64), "manipulation")


def test_files_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_trained(path, audio=None)
    with pytest.raises(CheckpointError, match="with its front-end"):
        load_embedder(path)
    for features in (None, {"name": "x"}, {"name": 3, "space": SPACE}):
        save_trained(path, features=features)
        with pytest.raises(CheckpointError, match="does not say to which text-image model"):
            load_embedder(path)
    with pytest.raises(SettingsError, match="no kind of ear is called 'wavclip'"):
        load_embedder(path, kind="wavclip")
    for kind in ("wav2clip", "soundini", "lee2022"):
        with pytest.raises(WeightsError, match=r"head\.weight is|is missing"):
            load_embedder(path, kind=kind)


# published


def test_wav2clip(tmp_path: Path) -> None:
    """Its own network: torchvision's ResNet-18 on one channel behind torchaudio's spectrogram."""
    models = pytest.importorskip("torchvision.models")
    torchaudio = pytest.importorskip("torchaudio")
    trunk = models.resnet18(num_classes=1000)
    trunk.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    mlp = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512))
    spectrogram = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=353)
    shaken(trunk)
    shaken(mlp)
    state = {f"audio_encoder.{k}": v for k, v in trunk.state_dict().items()}
    state["audio_encoder.spectrogram.window"] = spectrogram.window
    state |= {f"audio_transform.sequential.{k}": v for k, v in mlp.state_dict().items()}
    state["image_transform.sequential.0.weight"] = torch.zeros(2, 2)
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "Wav2CLIP.pt")

    ear = load_embedder(tmp_path / "Wav2CLIP.pt", kind="wav2clip")
    assert (ear.dim, ear.spec, ear.space) == (512, WAV2CLIP, None)
    wave = noise(1, 10)
    x = torch.log(spectrogram(wave[:, None]) + 1e-7)
    x = (x - x.mean()) / (x.std() + 1e-9)
    trunk.fc = nn.Identity()
    with torch.no_grad():
        expected = F.normalize(mlp.eval()(trunk.eval()(x)), dim=1)
    torch.testing.assert_close(ear.embed(wave), expected, rtol=1e-3, atol=1e-4)
    require_space(ear, Eye(dim=512), "what names no space is compared by its width")


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_soundini(tmp_path: Path, older: bool) -> None:
    """timm's Swin-T; older ones of it keep the head and the merging of places under other names."""
    timm = pytest.importorskip("timm")
    swin = shaken(timm.create_model("swin_tiny_patch4_window7_224", num_classes=512, in_chans=1))
    state = {f"module.feature_extractor.{k}": v for k, v in swin.state_dict().items()}
    if older:
        state = {
            k.replace("head.fc", "head")
            .replace("layers.1.down", "layers.0.down")
            .replace("layers.2.down", "layers.1.down")
            .replace("layers.3.down", "layers.2.down"): v
            for k, v in state.items()
        }
        state["module.feature_extractor.layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    scales = {f"module.logit_scale_{name}": torch.zeros(()) for name in ("ai", "at")}
    torch.save(state | scales, tmp_path / "audio_encoder.pth")

    ear = load_embedder(tmp_path / "audio_encoder.pth", kind="soundini")
    assert ear.spec == SOUND_GUIDED_RELATIVE
    wave = noise(1, 10, 44_100)
    with torch.no_grad():
        expected = F.normalize(swin(Frontend(ear.spec)(wave)), dim=1)
    torch.testing.assert_close(ear.embed(wave), expected, rtol=1e-3, atol=1e-5)


def test_lee_2022(tmp_path: Path) -> None:
    """A row of what its network sees holds four bands one after the other."""
    models = pytest.importorskip("torchvision.models")
    stem, trunk = shaken(nn.Conv2d(1, 3, 3)), shaken(models.resnet18(num_classes=512))
    state = {f"conv.{k}": v for k, v in stem.state_dict().items()}
    state |= {f"feature_extractor.{k}": v for k, v in trunk.state_dict().items()}
    torch.save(state, tmp_path / "resnet18.pth")

    ear = load_embedder(tmp_path / "resnet18.pth", kind="lee2022")
    wave = noise(1, 10, 44_100)
    bands = Frontend(ear.spec)(wave)
    assert bands.shape == (1, 1, 128, 864)
    tall = F.interpolate(bands, (512, 128), mode="bilinear", align_corners=False)
    seen = torch.cat([tall[:, :, row::4] for row in range(4)], dim=3)  # 4 bands side by side
    assert seen.shape == (1, 1, 128, 512)
    with torch.no_grad():
        expected = F.normalize(trunk(stem(seen)), dim=1)
    torch.testing.assert_close(ear.embed(wave), expected, rtol=1e-3, atol=1e-5)
