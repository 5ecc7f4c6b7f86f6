"""Published checkpoint layouts: loaded strictly, and computing what the original computes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.errors import SettingsError, WeightsError
from stages.image_encoder.model import ImageEncoder, SwAV
from stages.nn.published import load_published, read_tensors
from stages.nn.resnet import make_trunk
from stages.sound2scene.audio_encoder import AudioEncoder
from tests.stages.nn.published_checkpoints import (
    reference_resnet,
    sound2scene_checkpoint,
    swav_checkpoint,
)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_sound2scene_audio_encoder(tmp_path: Path) -> None:
    reference = reference_resnet("resnet18", in_channels=1, out_dim=2048)
    torch.save(sound2scene_checkpoint(reference), tmp_path / "best.pth")
    encoder = AudioEncoder().eval()
    load_published(encoder, "sound2scene", tmp_path / "best.pth")
    spectrograms = noise(2, 1, 257, 98)
    torch.testing.assert_close(
        encoder(spectrograms), reference(spectrograms).relu(), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_sound2vision_audio_encoder(tmp_path: Path) -> None:
    reference = reference_resnet("resnet18", in_channels=1, out_dim=1024)
    second = nn.Linear(1024, 1024)
    state = sound2scene_checkpoint(reference)
    state |= {f"audnet.fc2.{name}": value for name, value in second.state_dict().items()}
    torch.save(state, tmp_path / "env.pth")
    encoder = AudioEncoder(head="mlp", out_dim=1024).eval()
    load_published(encoder, "sound2scene", tmp_path / "env.pth")
    spectrograms = noise(2, 1, 257, 98)
    torch.testing.assert_close(
        encoder(spectrograms), second(reference(spectrograms).relu()), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_swav_with_and_without_its_heads(tmp_path: Path) -> None:
    reference = reference_resnet("resnet50")
    state = swav_checkpoint(reference)
    torch.save({"epoch": 800, "state_dict": state}, tmp_path / "swav.pth.tar")
    model, trunk = SwAV().eval(), ImageEncoder().eval()
    load_published(model, "swav", tmp_path / "swav.pth.tar")
    load_published(trunk, "swav_trunk", tmp_path / "swav.pth.tar")

    pictures = noise(2, 3, 64, 64)
    reference.fc = nn.Identity()
    features = reference(pictures)
    torch.testing.assert_close(trunk(pictures), features, rtol=1e-4, atol=1e-4)

    head = {name.removeprefix("module.projection_head."): value for name, value in state.items()}
    hidden = F.linear(features, head["0.weight"], head["0.bias"])
    mean, var = head["1.running_mean"], head["1.running_var"]
    hidden = (hidden - mean) / (var + 1e-5).sqrt() * head["1.weight"] + head["1.bias"]
    projected = F.linear(hidden.relu(), head["3.weight"], head["3.bias"])
    z, scores = model([pictures])
    torch.testing.assert_close(z[0], F.normalize(projected, dim=1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scores[0], z[0] @ state["module.prototypes.weight"].T)


def test_imagenet_classifier_without_its_head_and_old_batch_norms(tmp_path: Path) -> None:
    reference = reference_resnet("resnet18")
    state = {n: v for n, v in reference.state_dict().items() if "num_batches" not in n}
    save_file(state, tmp_path / "resnet18.safetensors")
    trunk = make_trunk("resnet18")
    load_published(trunk, "torchvision", tmp_path / "resnet18.safetensors")
    torch.testing.assert_close(
        trunk.layer3[0].downsample[0].weight, state["layer3.0.downsample.0.weight"]
    )


# what does not fit


def test_every_difference_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    encoder = AudioEncoder(arch="tiny", out_dim=8)
    state = renamed(encoder.state_dict())
    state["audnet.fc.weight"] = torch.zeros(9, 128)
    del state["audnet.fc.bias"]
    state["audnet.fc3.bias"] = torch.zeros(8)
    torch.save(state, tmp_path / "other.pth")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_published(encoder, "sound2scene", tmp_path / "other.pth")
    for part in (
        "head.0.bias is missing",
        "audnet.fc3.bias is not part of the model",
        "head.0.weight is [9, 128], the model has [8, 128]",
        "other.pth does not fit AudioEncoder as a 'sound2scene' checkpoint",
    ):
        assert part in str(caught.value)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names → Sound2Scene's."""
    return {
        name.replace("head.0.", "audnet.fc.").replace("trunk.", "audnet."): value
        for name, value in state.items()
    }


def test_long_reports_are_cut(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "no.pth")
    with pytest.raises(WeightsError, match=r"and [0-9]+ more\. Give the model the settings"):
        load_published(AudioEncoder(arch="tiny"), "sound2scene", tmp_path / "no.pth")


def test_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'clip'; known: sound2scene, swav"):
        load_published(AudioEncoder(arch="tiny"), "clip", tmp_path / "no.pth")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


def test_unreadable_files_are_explained_and_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="does not exist"):
        read_tensors("absent.pth")
    Path("page.pth").write_bytes(b"<html>sign in</html>")
    Path("page.safetensors").write_bytes(b"<html>sign in</html>")
    Path("empty.pth").write_bytes(b"")
    Path("harmful.pth").write_bytes(pickle.dumps({"state_dict": Harmful()}, protocol=2))
    torch.save({"state_dict": Harmful()}, "harmful_too.pth")
    for name in ("page.pth", "page.safetensors", "empty.pth", "harmful.pth", "harmful_too.pth"):
        with pytest.raises(WeightsError, match=f"cannot read the checkpoint {name}"):
            read_tensors(name)
    assert not Path("harm").exists()
    # What a damaged pickle raises has no end: KeyError here, elsewhere struct.error or IndexError.
    for content in (b"hello", b"j", b"\x80\x02J\x00"):
        Path("damaged.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=r"cannot read the checkpoint damaged\.pth"):
            read_tensors("damaged.pth")
    torch.save([1, 2], "list.pth")
    with pytest.raises(WeightsError, match="no table of tensors"):
        read_tensors("list.pth")
