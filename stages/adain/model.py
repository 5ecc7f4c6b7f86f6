"""AdaIN: a picture in the style of another one, in one pass.

Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV
2017.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from stages.losses.adain import moments
from stages.nn.vgg import Kind, Vgg19, plan


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Return σ(y) (x − μ(x)) / σ(x) + μ(y) of features x [B, C, h, w] and y [B, C, k, l]."""
    (mean, std), (wanted_mean, wanted_std) = moments(content), moments(style)
    return (content - mean) / std * wanted_std + wanted_mean


class Restyled(NamedTuple):
    """A picture in another's style, and what its losses compare.

    picture: [B, 3, H, W], about [-1, 1], not clipped. target: t, the features it was made of. made,
    style: features of each level of the picture and of the other one.
    """

    picture: Tensor
    target: Tensor
    made: list[Tensor]
    style: list[Tensor]


class Decoder(nn.Module):
    """Features [B, C, h, w] of the last level → pictures: VGG-19 the other way round.

    Reflected at the edges; every pool becomes nearest up-sampling; no ReLU at the end. 3 505 219
    parameters for 4 levels of width 64.
    """

    def __init__(self, *, width: int = 64, levels: int = 4) -> None:
        super().__init__()
        self.plan = plan(width, levels)[::-1]
        for conv in self.plan:
            self.add_module(conv.name, nn.Conv2d(conv.channels_out, conv.channels_in, 3))

    def forward(self, features: Tensor) -> Tensor:
        x = features
        for conv in self.plan:
            x = self.get_submodule(conv.name)(F.pad(x, (1, 1, 1, 1), mode="reflect"))
            if conv is not self.plan[-1]:
                x = F.relu(x)
            if conv.halves:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
        return x


class AdaIn(nn.Module):
    """Pictures [B, 3, H, W] and pictures whose style they take [B, 3, h, w], both in [-1, 1].

    The encoder is not trained; its weights stand in the same file. Sides are multiples of
    2^(levels - 1), and at least twice that. side_px: the side that it was trained on.
    """

    def __init__(
        self, *, width: int = 64, levels: int = 4, kind: Kind = "normalised", side_px: int = 256
    ) -> None:
        super().__init__()
        self.side_px = side_px
        self.encoder = Vgg19(width=width, levels=levels, kind=kind).requires_grad_(False)
        self.decoder = Decoder(width=width, levels=levels)

    def forward(self, content: Tensor, style: Tensor) -> Restyled:
        wanted = self.features(style)
        target = adain(self.features(content)[-1], wanted[-1])
        picture = self.picture(target)
        return Restyled(picture, target, self.features(picture), wanted)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return the encoder's features of each level [B, C_l, h, w]."""
        found: list[Tensor] = self.encoder((pictures + 1) / 2)
        return found

    def picture(self, features: Tensor) -> Tensor:
        """Return what the decoder makes of features of the last level, not clipped."""
        made: Tensor = 2 * self.decoder(features) - 1
        return made

    def restyle(self, content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        """Return pictures in [-1, 1]; alpha: from the content's own style, 0, to the other's, 1.

        T = g((1 - α) f(c) + α AdaIN(f(c), f(s))) (equation 14).
        """
        own = self.features(content)[-1]
        target = adain(own, self.features(style)[-1])
        return self.picture((1 - alpha) * own + alpha * target).clamp(-1, 1)
