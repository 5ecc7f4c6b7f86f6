"""Swin Transformer against timm's and transformers' own, of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avdata.errors import WeightsError
from stages.engine import torchaudio_guard
from stages.nn.swin import Swin, read_swin

torchaudio_guard.install()  # timm and transformers import torchvision where it is installed

SMALL: dict[str, Any] = {"width": 24, "depths": (2, 2), "heads": (2, 4)}
PX = 112  # 28 and 14 places: windows are shifted in both stages


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """Move all parameters, those that begin as zeros and ones too."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    return network.eval()


def pictures(channels: int) -> Tensor:
    return torch.randn(2, channels, PX, PX, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def timm_s() -> nn.Module:
    swin = pytest.importorskip("timm.models.swin_transformer")
    made: nn.Module = swin.SwinTransformer(
        img_size=PX, embed_dim=24, depths=(2, 2), num_heads=(2, 4), num_classes=5
    )
    return shaken(made)


def test_swin_t_has_its_number_of_parameters() -> None:
    for channels, expected in ((3, 27_519_354), (1, 27_516_282)):
        swin = Swin(in_channels=channels)
        assert sum(p.numel() for p in swin.parameters()) == expected


def test_as_timm_s(timm_s: Any, tmp_path: Path) -> None:
    torch.save(timm_s.state_dict(), tmp_path / "timm.pth")
    ours = Swin(**SMALL).eval()
    assert read_swin(ours, tmp_path / "timm.pth") == ["head.fc.weight", "head.fc.bias"]
    with torch.no_grad():
        expected = timm_s.forward_head(timm_s.forward_features(pictures(3)), pre_logits=True)
        torch.testing.assert_close(ours(pictures(3)), expected, rtol=1e-5, atol=1e-5)
    assert expected.abs().max() > 0.5


def test_gradients_are_timm_s_too(timm_s: Any, tmp_path: Path) -> None:
    torch.save(timm_s.state_dict(), tmp_path / "timm.pth")
    ours = Swin(**SMALL).eval()
    read_swin(ours, tmp_path / "timm.pth")
    ours(pictures(3)).square().mean().backward()
    theirs = timm_s.forward_head(timm_s.forward_features(pictures(3)), pre_logits=True)
    theirs.square().mean().backward()
    expected = dict(timm_s.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-6)


def test_the_paper_s_own_names(timm_s: Any, tmp_path: Path) -> None:
    """There, places are merged at the end of a stage, and constants are kept."""
    state = {
        name.replace("layers.1.downsample", "layers.0.downsample"): value
        for name, value in timm_s.state_dict().items()
    }
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 49, 49)
    state["layers.0.blocks.1.attn.relative_position_index"] = torch.zeros(49, 49)
    torch.save({"model": state}, tmp_path / "swin.pth")
    torch.save(timm_s.state_dict(), tmp_path / "timm.pth")
    one, other = Swin(**SMALL), Swin(**SMALL)
    assert len(read_swin(one, tmp_path / "swin.pth")) == 4
    read_swin(other, tmp_path / "timm.pth")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_as_transformers_s(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=PX, embed_dim=24, depths=[2, 2], num_heads=[2, 4], num_labels=3
    )
    theirs = shaken(transformers.SwinForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    ours = Swin(**SMALL).eval()
    left_out = read_swin(ours, tmp_path / "model.safetensors")
    assert sorted(left_out) == ["classifier.bias", "classifier.weight"]
    with torch.no_grad():
        expected = theirs.swin(pictures(3)).pooler_output
        torch.testing.assert_close(ours(pictures(3)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_one_channel_begins_as_timm_s_does(tmp_path: Path) -> None:
    """timm gives a network of one channel the weights of three, from a file."""
    timm = pytest.importorskip("timm")
    name = "swin_tiny_patch4_window7_224"
    torch.save(shaken(timm.create_model(name)).state_dict(), tmp_path / "rgb.pth")
    overlay = {"file": str(tmp_path / "rgb.pth")}
    theirs = timm.create_model(name, pretrained=True, in_chans=1, pretrained_cfg_overlay=overlay)
    ours = Swin(in_channels=1).eval()
    read_swin(ours, tmp_path / "rgb.pth")
    grey = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        features = theirs.eval().forward_features(grey)
        expected = theirs.forward_head(features, pre_logits=True)
        torch.testing.assert_close(ours(grey), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.patch_embed.proj.weight, theirs.patch_embed.proj.weight)


def test_blocks_are_skipped_in_training_alone_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    swin = Swin(width=8, depths=(1, 1), heads=(1, 1), drop_path=0.5)
    one = torch.rand(1, 3, 56, 56)
    with torch.no_grad():
        evaluated = swin.eval()(one)
        assert torch.equal(evaluated, swin(one))
        block = swin.train().layers[1].blocks[0]  # 0 in the first, all of drop_path in the last
        assert (swin.layers[0].blocks[0].drop_path, block.drop_path) == (0, 0.5)
        y = torch.ones(4000, 1, 1, 1)
        kept = block._kept(y)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert kept.mean().item() == pytest.approx(1, abs=0.06)  # four deviations of 2 / √4000 / 2


def test_what_does_not_fit_is_said(tmp_path: Path, timm_s: Any) -> None:
    with pytest.raises(ValueError, match="multiples of 224 px"):
        Swin(**SMALL)(torch.zeros(1, 3, 96, 96))
    state = timm_s.state_dict()
    del state["norm.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"norm\.bias is missing"):
        read_swin(Swin(**SMALL), tmp_path / "part.pth")
