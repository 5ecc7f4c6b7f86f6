"""The generator: a picture and what is heard → the picture as it would look there.

Li et al., Learning Visual Styles from Audio-Visual Associations, ECCV 2022, on the ResNet generator
of Park et al., Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020 (CUT), with
its down-sampling by blur-pool.

It comes apart into `Content`, which hears nothing, and `Drawing`: a picture's content is computed
once for any number of sounds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.avstyle.layers import Norm, ResidualBlock, init_xavier
from stages.nn.blur_pool import BlurPool, doubled

Enters = Literal["concat", "film", "none"]
ENTERS = ("concat", "film", "none")
SIDE_STEP_PX = 4  # sides are multiples of it
MIN_SIDE_PX = 8  # smaller features have nothing to reflect


class Read(NamedTuple):
    """What one pass over pictures gives.

    features: [B, 4 width, H / 4, W / 4]. layers: the five that PatchNCE compares, [B, C, h, w].
    """

    features: Tensor
    layers: list[Tensor]


class Painted(NamedTuple):
    """picture: [B, 3, H, W] in [-1, 1]. layers: those of the picture that it was painted from."""

    picture: Tensor
    layers: list[Tensor]


class Content(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1], sides multiples of 4 → features [B, 4 width, H/4, W/4].

    conv7 and two conv3, each with norm and ReLU, the latter with blur-pool; then residual blocks.
    PatchNCE compares `layers`: the reflect-padded picture, both conv3 before their norm, the first
    residual block and the middle one, the fifth of nine.
    """

    def __init__(self, *, width: int = 64, depth: int = 9, last_read: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 7)
        self.down1 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.down2 = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.norm1, self.norm2, self.norm3 = Norm(width), Norm(2 * width), Norm(4 * width)
        self.blur_pool = BlurPool()
        self.blocks = nn.ModuleList([ResidualBlock(4 * width) for _ in range(depth)])
        self.last_read = last_read
        self.channels = 4 * width
        self.layer_channels = [3, 2 * width, 4 * width, 4 * width, 4 * width]

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x).features

    def layers(self, x: Tensor) -> list[Tensor]:
        """Return what PatchNCE compares, without computing more."""
        return self._read(x, self.last_read).layers

    def read(self, x: Tensor) -> Read:
        """Return features and layers of one pass."""
        return self._read(x, len(self.blocks))

    def _read(self, x: Tensor, depth: int) -> Read:
        _require_sides(x)
        padded = F.pad(x, (3, 3, 3, 3), "reflect")
        y = F.relu(self.norm1(self.first(padded)))
        once = self.down1(y)
        y = self.blur_pool(F.relu(self.norm2(once)))
        twice = self.down2(y)
        y = self.blur_pool(F.relu(self.norm3(twice)))
        layers = [padded, once, twice]
        for number, block in enumerate(self.blocks[:depth], start=1):
            y = block(y)
            if number in (1, self.last_read):
                layers.append(y)
        return Read(y, layers)


class Drawing(nn.Module):
    """Features and what is heard [B, sound_dim] → a picture [B, 3, H, W] in [-1, 1].

    concat: the sound, tiled, stands beside the features at the decoder's entrance. film: it scales
    and shifts after every norm, of the residual blocks that are left and of the decoder. none: it
    is not heard.
    """

    def __init__(self, *, width: int = 64, depth: int = 0, sound_dim: int = 256, enters: Enters):
        super().__init__()
        listens = sound_dim if enters == "film" else None
        self.blocks = nn.ModuleList([ResidualBlock(4 * width, listens) for _ in range(depth)])
        inner = 4 * width
        entrance = inner + sound_dim if enters == "concat" else inner
        self.features = inner
        self.up1 = nn.Conv2d(entrance, entrance // 2, 3, padding=1)
        self.norm1 = Norm(entrance // 2, listens)
        self.up2 = nn.Conv2d(entrance // 2, entrance // 4, 3, padding=1)
        self.norm2 = Norm(entrance // 4, listens)
        self.last = nn.Conv2d(entrance // 4, 3, 7)

    def forward(self, features: Tensor, heard: Tensor | None = None) -> Tensor:
        y = features
        for block in self.blocks:
            y = block(y, heard)
        y = F.relu(self.norm1(self._enter(doubled(y), heard), heard))
        y = F.relu(self.norm2(self.up2(doubled(y)), heard))
        return torch.tanh(self.last(F.pad(y, (3, 3, 3, 3), "reflect")))

    def _enter(self, y: Tensor, heard: Tensor | None) -> Tensor:
        """Return up1 of y [B, 4 width, H, W] and, if it has channels for it, of the tiled sound."""
        if self.up1.in_channels == self.features:
            result: Tensor = self.up1(y)
            return result
        if heard is None:
            raise ValueError("this network needs what is heard, [B, sound_dim], got None")
        if torch.onnx.is_in_onnx_export():  # whose shapes get lost in what follows
            tiled = heard[..., None, None].expand(-1, -1, y.shape[2], y.shape[3])
            plain: Tensor = self.up1(torch.cat([y, tiled], dim=1))
            return plain
        seen, told = self.up1.weight.tensor_split([self.features], dim=1)
        # A map of one value need not be convolved pixel by pixel, which were half of this layer's
        # work: with zeros around it, it gives 3 × 3 values, for corners, edges and the inside.
        nine = F.conv2d(heard[..., None, None].expand(-1, -1, 3, 3), told, padding=1)
        return F.conv2d(y, seen, self.up1.bias, padding=1) + _stretched(nine, *y.shape[2:])


class Generator(nn.Module):
    """x [B, 3, H, W] in [-1, 1] and heard [B, sound_dim] → a picture of the same size.

    enters: how sound does. "concat", as published (12 493 699 parameters): beside the features
    after the last residual block; as a constant map it goes through a convolution into a norm that
    subtracts it again, and changes little but the edge of the picture. "film": by scale and shift
    after the norms of the second half. "none": not at all (CUT, 11 378 179 parameters).
    H and W are multiples of 4, from 8 on. Weights start from Xavier's normal, gain 0.02.
    """

    def __init__(
        self, *, width: int = 64, blocks: int = 9, sound_dim: int = 256, enters: Enters = "concat"
    ) -> None:
        super().__init__()
        if enters not in ENTERS:
            raise ValueError(f"enters must be one of {', '.join(ENTERS)}, got {enters!r}")
        if blocks < 3:
            raise ValueError(f"blocks must be at least 3, so that PatchNCE reads two, got {blocks}")
        middle = (blocks + 1) // 2
        depth = middle if enters == "film" else blocks
        self.content = Content(width=width, depth=depth, last_read=middle)
        self.drawing = Drawing(
            width=width, depth=blocks - depth, sound_dim=sound_dim, enters=enters
        )
        init_xavier(self)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        picture: Tensor = self.drawing(self.content(x), heard)
        return picture

    def paint(self, x: Tensor, heard: Tensor | None = None) -> Painted:
        """Return the picture, and the layers of x that its own are compared with, in one pass."""
        read = self.content.read(x)
        return Painted(self.drawing(read.features, heard), read.layers)


def _stretched(nine: Tensor, height: int, width: int) -> Tensor:
    """Return [B, C, height, width] of [B, C, 3, 3]: the middle row and column repeated."""
    top, row, bottom = nine.chunk(3, dim=2)
    tall = torch.cat([top, row.expand(-1, -1, height - 2, -1), bottom], dim=2)
    left, column, right = tall.chunk(3, dim=3)
    return torch.cat([left, column.expand(-1, -1, -1, width - 2), right], dim=3)


def _require_sides(x: Tensor) -> None:
    height, width = x.shape[2:]
    if height % SIDE_STEP_PX or width % SIDE_STEP_PX or min(height, width) < MIN_SIDE_PX:
        raise ValueError(
            f"sides of pictures must be multiples of {SIDE_STEP_PX} from {MIN_SIDE_PX} px on, got "
            f"{height} × {width}; pad or resize them"
        )
