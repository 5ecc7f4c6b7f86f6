"""Where the sound encoder may start from: published layouts, made with torchvision's networks, and
trainings of this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avdata.audio.spec import AVSTYLE, SOUND2SCENE
from avdata.errors import WeightsError
from stages.avstyle.ear import make_ear
from stages.avstyle.initial import start_from
from stages.avstyle.settings import Settings
from stages.avstyle.sound_encoder import SoundEncoder
from stages.engine.checkpoint import ModelCard, save_weights
from stages.engine.errors import CheckpointError
from stages.models import build
from tests.stages.nn.published_checkpoints import (
    reference_resnet,
    sound2scene_checkpoint,
    torchvision_models,
)


def reference(arch: str = "resnet18", out_dim: int = 1000) -> nn.Module:
    return reference_resnet(arch, in_channels=1, out_dim=out_dim)


def resnet9() -> nn.Module:
    """SeLaVi's, by torchvision: one block in each layer, and no head."""
    models = torchvision_models()
    net: nn.Module = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])
    net.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    net.fc = nn.Identity()
    return net.eval()


def selavi_checkpoint(net: nn.Module) -> dict[str, Any]:
    """As its training saves it: audio network, video network and heads, data-parallel."""
    state = {f"audio_network.base.{k}": v for k, v in net.state_dict().items()}
    state |= {
        "video_network.base.stem.0.weight": torch.zeros(45, 3, 1, 7, 7),
        "video_network.base.layer1.0.conv1.0.0.weight": torch.zeros(144, 64, 1, 3, 3),
        "video_network.base.layer1.1.conv1.0.0.weight": torch.zeros(144, 64, 1, 3, 3),
        "mlp_a0.block_forward.2.weight": torch.zeros(512, 512),
        "mlp_v0.block_forward.2.weight": torch.zeros(512, 512),
    }
    return {"epoch": 200, "model": {f"module.{k}": v for k, v in state.items()}}


def wav2clip_checkpoint(net: nn.Module) -> dict[str, Any]:
    state = {f"audio_encoder.{k}": v for k, v in net.state_dict().items()}
    state["audio_encoder.spectrogram.window"] = torch.hann_window(512)
    for layer in (0, 3):
        state[f"audio_transform.sequential.{layer}.weight"] = torch.zeros(512, 512)
        state[f"audio_transform.sequential.{layer}.bias"] = torch.zeros(512)
    return {"epoch": 14, "state_dict": state}


def heard_alike(encoder: SoundEncoder, net: nn.Module) -> None:
    """The trunk computes what torchvision's does with the other padding of its first layer."""
    assert isinstance(net.conv1, nn.Conv2d)
    net.conv1.padding = (1, 1)
    net.fc = nn.Identity()
    spectrogram = torch.rand(1, 1, 257, 101, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = encoder.eval().trunk(spectrogram).mean((2, 3))
        torch.testing.assert_close(ours, net.eval()(spectrogram), rtol=1e-4, atol=1e-4)


def test_sound2scene(tmp_path: Path) -> None:
    net = reference(out_dim=2048)
    torch.save(sound2scene_checkpoint(net), tmp_path / "best.pth")
    encoder = SoundEncoder()
    head = encoder.head.weight.clone()
    left_out = start_from(encoder, tmp_path / "best.pth")
    assert left_out == ["audnet.fc.weight", "audnet.fc.bias"]
    assert torch.equal(encoder.head.weight, head)
    heard_alike(encoder, net)


def test_wav2clip(tmp_path: Path) -> None:
    net = reference()
    torch.save(wav2clip_checkpoint(net), tmp_path / "Wav2CLIP.pt")
    encoder = SoundEncoder()
    left_out = start_from(encoder, str(tmp_path / "Wav2CLIP.pt"))
    assert {name.split(".")[1] for name in left_out} == {"fc", "spectrogram", "sequential"}
    assert len(left_out) == 2 + 1 + 4
    heard_alike(encoder, net)


def test_selavi_s_resnet9_fits_a_resnet9_and_no_resnet18(tmp_path: Path) -> None:
    net = resnet9()
    torch.save(selavi_checkpoint(net), tmp_path / "selavi.pth")
    encoder = SoundEncoder()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        start_from(encoder, tmp_path / "selavi.pth")
    for part in ("selavi.pth has 1, 1, 1, 1 blocks", "has 2, 2, 2, 2", "resnet9"):
        assert part in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())

    small = SoundEncoder(arch="resnet9")
    left_out = start_from(small, tmp_path / "selavi.pth")
    assert sorted({name.split(".")[1] for name in left_out}) == [
        "mlp_a0",
        "mlp_v0",
        "video_network",
    ]
    heard_alike(small, net)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = wav2clip_checkpoint(reference())
    del state["state_dict"]["audio_encoder.layer2.0.downsample.0.weight"]
    state["state_dict"]["audio_encoder.conv1.weight"] = torch.zeros(64, 3, 7, 7)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(WeightsError) as caught:
        start_from(SoundEncoder(), tmp_path / "other.pt")
    for part in (
        "layer2.0.downsample.0.weight is missing",
        "conv1.weight is [64, 3, 7, 7], the model has [64, 1, 7, 7]",
        "does not fit ResNet as a 'wav2clip_trunk' checkpoint",
    ):
        assert part in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "some.pt")
    with pytest.raises(WeightsError, match=r"no published checkpoint of .*begin with encoder\.wei"):
        start_from(SoundEncoder(), tmp_path / "some.pt")


# trainings of this project


def save(path: Path, card: ModelCard, weights: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, weights, card.metadata())


def test_a_sound2scene_training(tmp_path: Path) -> None:
    settings = {"arch": "tiny", "out_dim": 32}
    trained = build("audio_encoder", **settings)
    card = ModelCard(name="audio_encoder", settings=settings, audio=SOUND2SCENE)
    save(tmp_path / "model.safetensors", card, trained.state_dict())
    for path in (tmp_path, tmp_path / "model.safetensors"):
        encoder = SoundEncoder(arch="tiny", out_dim=32)
        head = encoder.head.weight.clone()
        assert start_from(encoder, path) == ["head.0.bias", "head.0.weight"]
        for name, value in encoder.trunk.state_dict().items():
            assert torch.equal(value, trained.state_dict()[f"trunk.{name}"])
        assert torch.equal(encoder.head.weight, head)
    with pytest.raises(CheckpointError, match=r"conv1.weight is \[16, 1, 7, 7\].*'arch': 'tiny'"):
        start_from(SoundEncoder(arch="resnet9"), tmp_path)
    with pytest.raises(WeightsError, match=r"1, 1, 1, 1 blocks .* has 2, 2, 2, 2"):
        start_from(SoundEncoder(), tmp_path)


def test_an_earlier_training_of_this_family_gives_its_head_too(tmp_path: Path) -> None:
    trained = SoundEncoder(arch="tiny", out_dim=8)
    card = ModelCard(name="avstyle_sound_encoder", settings={"arch": "tiny"}, audio=AVSTYLE)
    save(tmp_path / "sound_encoder.safetensors", card, trained.state_dict())
    encoder = SoundEncoder(arch="tiny", out_dim=8)
    assert start_from(encoder, tmp_path / "sound_encoder.safetensors") == []
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name])
    wider = SoundEncoder(arch="tiny", out_dim=9)
    assert start_from(wider, tmp_path / "sound_encoder.safetensors") == ["head.bias", "head.weight"]


def test_the_trainer_says_where_the_encoder_starts_from(tmp_path: Path) -> None:
    trained = build("audio_encoder", arch="tiny", out_dim=32)
    card = ModelCard(name="audio_encoder", settings={"arch": "tiny"}, audio=SOUND2SCENE)
    save(tmp_path / "model.safetensors", card, trained.state_dict())
    told: list[str] = []
    settings = Settings(arch="tiny", init_from=str(tmp_path))
    name, network, _ = make_ear(settings, None, told.append)
    assert name == "sound_encoder"
    assert told == [f"the sound encoder starts from {tmp_path}, without head.0.bias, head.0.weight"]
    weights = network.state_dict()["trunk.conv1.weight"]
    assert torch.equal(weights, trained.state_dict()["trunk.conv1.weight"])
    make_ear(Settings(arch="tiny"), None, told.append)
    assert len(told) == 1


def test_another_model_and_no_training_at_all(tmp_path: Path) -> None:
    trained = SoundEncoder(arch="tiny")
    card = ModelCard(name="image_encoder", settings={}, audio=AVSTYLE)
    save(tmp_path / "model.safetensors", card, trained.state_dict())
    with pytest.raises(CheckpointError, match="holds the model image_encoder; the sound encoder"):
        start_from(SoundEncoder(arch="tiny"), tmp_path)
    with pytest.raises(CheckpointError, match="has not finished"):
        start_from(SoundEncoder(arch="tiny"), tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="does not exist"):
        start_from(SoundEncoder(arch="tiny"), tmp_path / "absent.pth")
