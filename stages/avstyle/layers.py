"""What AVStyle's networks are made of: initial weights, norms that may listen, residual blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from stages.nn.instance_norm import instance_norm

GAIN = 0.02


def init_xavier(module: nn.Module) -> None:
    """Draw weights of convolutions and linear layers from Xavier's normal, gain 0.02; biases 0.

    Where a norm listens to the sound, the sound changes nothing at first.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(part.weight, GAIN)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, Norm) and part.film is not None:
            nn.init.zeros_(part.film.weight)


class Norm(nn.Module):
    """Instance norm without weights of its own, [B, C, H, W] → the same shape.

    sound_dim: then scaled and shifted per channel by what is heard [B, sound_dim], y (1 + s) + t
    with (s, t) linear in it (Perez et al., FiLM, AAAI 2018). None: deaf.
    """

    def __init__(self, channels: int, sound_dim: int | None = None) -> None:
        super().__init__()
        self.film = None if sound_dim is None else nn.Linear(sound_dim, 2 * channels)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        y = instance_norm(x)
        if self.film is None:
            return y
        if heard is None:
            raise ValueError("this network needs what is heard, [B, sound_dim], got None")
        both: Tensor = self.film(heard)[..., None, None]
        scale, shift = both.chunk(2, dim=1)
        return y * (1 + scale) + shift


class ResidualBlock(nn.Module):
    """x + norm(conv3(relu(norm(conv3(x))))), edges reflected, no ReLU after the sum."""

    def __init__(self, channels: int, sound_dim: int | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.norm1 = Norm(channels, sound_dim)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.norm2 = Norm(channels, sound_dim)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x), heard))
        y: Tensor = self.norm2(self.conv2(inner), heard)
        return x + y
