"""Encoders: published sizes, torchvision as the independent network, learning, and the registry."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.audio.spec import SOUND2SCENE
from avdata.errors import SettingsError
from stages.image_encoder.model import ImageEncoder, SwAV
from stages.losses.info_nce import euclidean_info_nce
from stages.models import build, models
from stages.nn.resnet import make_trunk
from stages.sound2scene.audio_encoder import AudioEncoder
from tests.stages.nn.published_checkpoints import randomised, reference_resnet


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# sizes


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (lambda: AudioEncoder(), 12_220_864),
        (lambda: AudioEncoder(head="mlp", out_dim=1024), 12_745_152),
        (lambda: ImageEncoder(), 23_508_032),
        # ImageNet's classifiers less their heads of 512 · 1000 + 1000 and 2048 · 1000 + 1000.
        (lambda: make_trunk("resnet18"), 11_689_512 - 513_000),
        (lambda: make_trunk("resnet50"), 25_557_032 - 2_049_000),
        # 2048² + 2048, batch norm 2 · 2048, 2048 · 128 + 128, 3000 · 128.
        (lambda: SwAV(), 23_508_032 + 4_196_352 + 4_096 + 262_272 + 384_000),
    ],
)
def test_published_parameter_counts(model: Callable[[], nn.Module], published: int) -> None:
    with torch.device("meta"):
        assert n_parameters(model()) == published


def test_tiny_encoders_are_tiny() -> None:
    assert n_parameters(AudioEncoder(arch="tiny", out_dim=64)) < 400_000
    assert n_parameters(SwAV(arch="tiny", n_prototypes=32)) < 400_000
    assert ImageEncoder(arch="tiny").out_dim == 128


# what they compute


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_trunk_computes_what_torchvision_computes(arch: str) -> None:
    reference = reference_resnet(arch)
    trunk = make_trunk(arch).eval()
    state = {n: v for n, v in reference.state_dict().items() if not n.startswith("fc.")}
    trunk.load_state_dict(state, strict=True)
    pictures = noise(2, 3, 65, 96)
    with torch.no_grad():
        features = trunk(pictures)
        assert features.shape == (2, trunk.out_channels, 3, 3)
        logits = reference.fc(features.mean(dim=(2, 3)))
        torch.testing.assert_close(logits, reference(pictures), rtol=1e-4, atol=1e-4)


def test_strides_set_the_size_of_the_map() -> None:
    trunk = make_trunk("tiny", strides=(1, 2, 1, 1)).eval()
    assert trunk(noise(1, 3, 64, 64)).shape == (1, 128, 8, 8)
    assert make_trunk("tiny", width=8).eval()(noise(1, 3, 64, 64)).shape == (1, 64, 2, 2)


def test_audio_encoder_sees_the_published_spectrogram() -> None:
    encoder = AudioEncoder().eval()
    with torch.no_grad():
        z_A = encoder(noise(2, *SOUND2SCENE.shape))
    assert z_A.shape == (2, 2048)
    assert z_A.min() == 0  # ReLU
    assert (z_A > 0).float().mean() > 0.2


def test_final_relu_is_an_option() -> None:
    torch.manual_seed(0)
    heads = {
        ("linear", None): False,
        ("linear", False): True,
        ("mlp", None): True,
        ("mlp", True): False,
    }
    for (head, final_relu), negative in heads.items():
        encoder = AudioEncoder(arch="tiny", out_dim=64, head=head, final_relu=final_relu).eval()
        assert (encoder(noise(4, 1, 65, 50)).min() < 0) == negative


def test_audio_encoder_starts_as_published() -> None:
    torch.manual_seed(0)
    trunk = AudioEncoder().trunk
    weights = torch.cat([m.weight for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)])
    assert weights.mean().item() == pytest.approx(1, abs=2e-3)
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    # Kaiming, fan-out, ReLU: variance 2 / (out_channels · kernel area).
    for layer in (trunk.conv1, trunk.layer4[1].conv2):
        fan_out = layer.out_channels * layer.kernel_size[0] ** 2
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)


def test_image_features_are_pooled_raw_and_not_negative() -> None:
    encoder = randomised(ImageEncoder(arch="tiny"))
    pictures = noise(3, 3, 96, 64)
    features = encoder(pictures)
    assert features.shape == (3, 128)
    assert features.min() >= 0
    pooled = F.adaptive_avg_pool2d(encoder.trunk(pictures), 1).flatten(1)
    torch.testing.assert_close(features, pooled)


def test_swav_keeps_views_apart_and_scores_are_cosines() -> None:
    model = randomised(SwAV(arch="tiny", embed_dim=16, n_prototypes=10))
    crops = [noise(4, 3, side, side, seed=i) for i, side in enumerate((64, 64, 32, 32, 32))]
    model.normalise_prototypes()
    with torch.no_grad():
        z, scores = model(crops)
        assert z.shape == (5, 4, 16)
        assert scores.shape == (5, 4, 10)
        torch.testing.assert_close(z.norm(dim=2), torch.ones(5, 4))
        for v, crop in enumerate(crops):
            alone = F.normalize(model.projection_head(model.encoder(crop)), dim=1)
            torch.testing.assert_close(z[v], alone)
            cosine = F.cosine_similarity(alone[:, None], model.prototypes.weight[None], dim=2)
            torch.testing.assert_close(scores[v], cosine)


# learning


@pytest.mark.slow
def test_tiny_audio_encoder_overfits_one_batch() -> None:
    torch.manual_seed(0)
    n = 8
    # Targets along the axes: a final ReLU would lose those whose one unit dies.
    encoder = AudioEncoder(arch="tiny", out_dim=16, final_relu=False)
    spectrograms = noise(n, 1, 65, 50, seed=1)
    z_V = torch.eye(n, 16)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        loss = euclidean_info_nce(encoder(spectrograms), z_V)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    best = math.log(1 + (n - 1) * math.exp(-math.sqrt(2)))
    assert losses[0] > 0.9 * math.log(n)
    assert losses[-1] < best + 0.1


# the registry


@pytest.mark.parametrize("name", ["audio_encoder", "image_encoder", "swav"])
def test_registry_builds_by_name(name: str) -> None:
    model = build(name, arch="tiny")
    assert isinstance(model, nn.Module)
    assert type(model).__name__ == models()[name].split(":")[1]


def test_registry_is_lazy() -> None:
    code = "import sys, stages.models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("audio_encodr", {}, "did you mean audio_encoder"),
        ("zebra", {}, "known: image_encoder, "),
        ("audio_encoder", {"dim": 3}, "unexpected keyword argument 'dim'; it takes arch, width"),
        ("localizer", {}, "missing a required.*n_classes"),
        (
            "audio_encoder",
            {"arch": "resnet19"},
            "arch must be one of resnet9, resnet18.*'resnet19'",
        ),
        ("audio_encoder", {"arch": "tiny", "head": "deep"}, "linear or mlp, got 'deep'"),
        ("localizer", {"n_classes": 0}, "n_classes must be at least 1, got 0"),
        ("localizer", {"n_classes": 2, "pooling": "max"}, "attention or average, got 'max'"),
        ("localizer", {"n_classes": 2, "scale": 0.0}, "above 0, got 0.1 and 0.0"),
    ],
)
def test_registry_explains_what_is_wrong(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        build(name, **settings)
