"""VGG-19: its published sizes, and that both published layouts compute what they did at home."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.errors import WeightsError
from stages.nn.vgg import Vgg19, load_vgg19, plan

# Configuration E of the paper: 16 convolutions, a pool at each M.
TABLE = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]
PARAMETERS = 143_667_240  # of the whole network, as published
HEAD = (25_088 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000


def as_torchvision() -> nn.Sequential:
    """The convolutional part, layer by layer as torchvision numbers it, with random weights."""
    layers: list[nn.Module] = []
    channels = 3
    for entry in TABLE:
        if isinstance(entry, int):
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
            channels = entry
        else:
            layers.append(nn.MaxPool2d(2))
    return _filled(nn.Sequential(*layers))


def as_normalised() -> nn.Sequential:
    """The same as a list of layers with reflecting edges, behind a layer for the colours."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    channels = 3
    for entry in TABLE[:-1]:
        if isinstance(entry, int):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, entry, 3), nn.ReLU()]
            channels = entry
        else:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return _filled(nn.Sequential(*layers))


def _filled(network: nn.Sequential) -> nn.Sequential:
    random = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.data = torch.randn(parameter.shape, generator=random) * (2 / fan_in) ** 0.5
    return network.eval()


def relus(network: nn.Sequential, x: Tensor, first_convolutions: list[int]) -> list[Tensor]:
    """What stands behind the ReLU after each of these convolutions."""
    found, after = [], {n + 1 for n in first_convolutions}
    for number, layer in enumerate(network):
        x = layer(x)
        if number in after:
            found.append(x)
    return found


def test_sizes_are_the_published_ones() -> None:
    whole = sum(p.numel() for p in as_torchvision().parameters()) + HEAD
    assert whole == PARAMETERS  # so the table above is VGG-19's
    model = Vgg19(kind="torchvision")
    assert sum(p.numel() for p in model.parameters()) == 3_505_728
    assert sum(p.numel() for p in Vgg19().parameters()) == 3_505_728 + 12
    assert [conv.name for conv in plan()] == (
        [
            "conv1_1",
            "conv1_2",
            "conv2_1",
            "conv2_2",
            "conv3_1",
            "conv3_2",
            "conv3_3",
            "conv3_4",
            "conv4_1",
        ]
    )
    with torch.no_grad():
        shapes = [tuple(f.shape) for f in model(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(1, 64, 64, 64), (1, 128, 32, 32), (1, 256, 16, 16), (1, 512, 8, 8)]


@torch.no_grad()
def test_torchvisions_weights_compute_the_same(tmp_path: Path) -> None:
    home = as_torchvision()
    state = {f"features.{name}": value for name, value in home.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)  # left aside, whatever it is
    torch.save(state, tmp_path / "vgg19.pth")
    pictures = torch.rand(2, 3, 37, 41, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = (pictures - mean[:, None, None]) / std[:, None, None]
    wanted = relus(home, seen, [0, 5, 10, 19])
    found = load_vgg19(tmp_path / "vgg19.pth")(pictures)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_normalised_weights_compute_the_same(tmp_path: Path) -> None:
    home = as_normalised()
    torch.save(home.state_dict(), tmp_path / "vgg_normalised.pth")
    pictures = torch.rand(2, 3, 37, 41, generator=torch.Generator().manual_seed(1))
    wanted = relus(home, pictures, [2, 9, 16, 29])
    found = load_vgg19(tmp_path / "vgg_normalised.pth")(pictures)
    assert found[-1].shape == (2, 512, 5, 6)  # rounded up at each pool: 37, 19, 10, 5
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"29.weight": None}, "conv4_1.weight is missing"),
        ({"29.weight": torch.zeros(512, 256, 1, 1)}, r"conv4_1.weight is \[512, 256, 1, 1\]"),
        ({"30.weight": torch.zeros(1)}, "30.weight is not part of the model"),
    ],
)
def test_other_weights_are_refused(
    change: dict[str, Tensor | None], told: str, tmp_path: Path
) -> None:
    state = {**as_normalised().state_dict(), **change}
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match=told):
        load_vgg19(tmp_path / "wrong.pth")


@torch.no_grad()
def test_without_published_weights_no_level_fades_or_grows() -> None:
    """Style is compared by mean and deviation of each level: random weights keep their scale."""
    torch.manual_seed(0)
    noise = torch.rand(4, 3, 32, 32)
    features = Vgg19(width=32, levels=3)(F.avg_pool2d(noise, 3, 1, 1))
    assert len(features) == 3
    for level in features:
        assert 0.05 < level.std() < 5


@pytest.mark.parametrize("wrong", [{"levels": 5}, {"levels": 0}, {"kind": "caffe"}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Vgg19(**wrong)
