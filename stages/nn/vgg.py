"""VGG-19 up to relu4_1: the features in which style is compared.

Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
Two kinds of weights go round: torchvision's, and the normalised ones of style transfer (Gatys et
al., 2016; the copy for torch that Huang & Belongie, 2017, train with), whose features have a mean
of one and which reflect pictures at their edges.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata import weights
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from stages.nn.published import load_published, read_tensors

Kind = Literal["normalised", "torchvision"]
KINDS = ("normalised", "torchvision")
DEPTHS = (2, 2, 4, 4)  # convolutions of each level; the last level ends after its first
PLAIN_LEVEL, PLAIN_SCALE = 0.5, 4.0  # how a network without published weights sees colours


class Conv(NamedTuple):
    """A convolution 3 × 3 of VGG-19, by its published name; halves: a pool stands before it."""

    name: str
    channels_in: int
    channels_out: int
    halves: bool


def plan(width: int = 64, levels: int = 4) -> list[Conv]:
    """Return the convolutions up to conv{levels}_1: nine for 4 levels, conv1_1 to conv4_1."""
    if not 1 <= levels <= len(DEPTHS):
        raise ValueError(f"levels must lie between 1 and {len(DEPTHS)}, got {levels}")
    found, channels = [], 3
    for level, depth in enumerate(DEPTHS[:levels], start=1):
        for number in range(1, (depth if level < levels else 1) + 1):
            out = width * 2 ** (level - 1)
            first = number == 1 and level > 1
            found.append(Conv(f"conv{level}_{number}", channels, out, first))
            channels = out
    return found


class Vgg19(nn.Module):
    """RGB pictures [B, 3, H, W] in [0, 1] → features of relu1_1, relu2_1, … relu{levels}_1.

    Feature l is [B, width 2^l, H / 2^l, W / 2^l], sides rounded up where `kind` is normalised, down
    where it is torchvision. With 4 levels of width 64, 3 505 728 parameters, and 12 of `colour`, by
    which the normalised network turns RGB into blue, green, red less their means.
    """

    def __init__(self, *, width: int = 64, levels: int = 4, kind: Kind = "normalised") -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.kind = kind
        self.plan = plan(width, levels)
        for conv in self.plan:
            layer = nn.Conv2d(conv.channels_in, conv.channels_out, 3)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            self.add_module(conv.name, layer)
        if kind == "normalised":
            self.colour = nn.Conv2d(3, 3, 1)
            assert self.colour.bias is not None
            with torch.no_grad():
                self.colour.weight.copy_(PLAIN_SCALE * torch.eye(3)[..., None, None])
                self.colour.bias.fill_(-PLAIN_SCALE * PLAIN_LEVEL)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        features = []
        x = self._seen(pictures)
        for conv in self.plan:
            if conv.halves:
                x = F.max_pool2d(x, 2, ceil_mode=self.kind == "normalised")
            mode = "reflect" if self.kind == "normalised" else "constant"
            x = F.relu(self.get_submodule(conv.name)(F.pad(x, (1, 1, 1, 1), mode=mode)))
            if conv.name.endswith("_1"):
                features.append(x)
        return features

    def _seen(self, pictures: Tensor) -> Tensor:
        if self.kind == "normalised":
            coloured: Tensor = self.colour(pictures)
            return coloured
        mean, std = (pictures.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (pictures - mean) / std


def load_vgg19(given: str | Path) -> Vgg19:
    """Return VGG-19 up to relu4_1 with published weights, of either kind.

    given: a file, or its name in the weights table. Raises WeightsError for anything else.
    """
    path = weights.resolve(given)
    kind: Kind = "normalised" if "0.weight" in read_tensors(path) else "torchvision"
    model = Vgg19(kind=kind)
    load_published(model, f"vgg19_{kind}", path)
    return model
