"""Residual networks (He et al., Deep Residual Learning for Image Recognition, CVPR 2016).

Trunks without a head: they end in a feature map. Names of parameters are those of the published
ImageNet checkpoints (conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, ...), and as there, a
bottleneck strides in its 3×3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """relu(x + bn(conv3x3(relu(bn(conv3x3(x))))))."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + y)


class Bottleneck(nn.Module):
    """1×1 to `channels`, 3×3 with the stride, 1×1 to 4 · `channels`, around a shortcut."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + y)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """A trunk: [B, in_channels, H, W] → non-negative features [B, out_channels, h, w].

    h = H / (4 · product of `strides`), rounded up; `depths` blocks per layer. stem_padding: of the
    first convolution; with less than the usual 3, h may be one less.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        in_channels: int = 3,
        width: int = 64,
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_padding: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=stem_padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.out_channels = width
        layers = []
        for number, (depth, stride) in enumerate(zip(depths, strides, strict=True)):
            blocks = []
            for position in range(depth):
                channels = width * 2**number
                blocks.append(block(self.out_channels, channels, stride if position == 0 else 1))
                self.out_channels = channels * block.expansion
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


def init_weights(module: nn.Module, bn_std: float = 0.0) -> None:
    """Draw convolutions from Kaiming's normal (fan-out), batch norm weights from N(1, bn_std)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, bn_std)
            nn.init.zeros_(part.bias)


@dataclass(frozen=True, slots=True)
class Arch:
    """The size of a trunk."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]
    width: int


ARCHS: dict[str, Arch] = {
    "resnet9": Arch(BasicBlock, (1, 1, 1, 1), 64),
    "resnet18": Arch(BasicBlock, (2, 2, 2, 2), 64),
    "resnet50": Arch(Bottleneck, (3, 4, 6, 3), 64),
    "tiny": Arch(BasicBlock, (1, 1, 1, 1), 16),
}
"""Trunks by name; `tiny` (128 features) trains in minutes on a CPU."""


def make_trunk(
    arch: str,
    *,
    in_channels: int = 3,
    width: int | None = None,
    strides: Sequence[int] = (1, 2, 2, 2),
    stem_padding: int = 3,
) -> ResNet:
    """Return the trunk called `arch`; `width` overrides the channels of its first layer.

    Raises ValueError for a name that is not in ARCHS.
    """
    if arch not in ARCHS:
        raise ValueError(f"arch must be one of {', '.join(ARCHS)}, got {arch!r}")
    size = ARCHS[arch]
    return ResNet(
        size.block,
        size.depths,
        in_channels=in_channels,
        width=width or size.width,
        strides=strides,
        stem_padding=stem_padding,
    )
