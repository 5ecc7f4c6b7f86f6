"""The layers of StyleGAN2, in plain PyTorch: nothing is compiled when they are first used.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020. Weights are drawn
from N(0, 1) and scaled when they are used, so that all of them learn at the same pace (equalised
learning rate, Karras et al., Progressive Growing of GANs, ICLR 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE, GAIN = 0.2, math.sqrt(2)  # of the leaky ReLU; the gain keeps the second moment of N(0, 1)
TAPS = (1.0, 3.0, 3.0, 1.0)  # of the filter around each change of resolution
EPS = 1e-8


def leaky(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return √2 · lrelu(x + bias) of [B, C, ...] and [C]."""
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, SLOPE) * GAIN


def at_least_float32(x: Tensor) -> Tensor:
    """Return x, brought to float32 from half precision, whose range is too narrow for squares."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def second_moment_norm(x: Tensor) -> Tensor:
    """Return x [B, D] over the root of its mean square."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPS)


class Linear(nn.Module):
    """[B, in] → [B, out] with an equalised learning rate: (pace / √in) W x + pace · b.

    pace: the share of the learning rate that its parameters get. start: of the bias.
    """

    def __init__(self, in_dim: int, out_dim: int, *, pace: float = 1.0, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / pace)
        self.bias = nn.Parameter(torch.full((out_dim,), start / pace))
        self.pace = pace
        self.scale = pace / math.sqrt(in_dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.pace)


class Conv(nn.Module):
    """[B, in, H, W] → [B, out, H, W] with an equalised learning rate.

    down: [B, out, H/2, W/2], of what the filter has smoothed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        down: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1 / math.sqrt(in_channels * size * size)
        self.down = down
        self.smooth = Smooth(size - 1) if down else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; the bias is left to the activation."""
        weight, size = self.weight * self.scale, self.weight.shape[-1]
        if self.smooth is None:
            return F.conv2d(x, weight, padding=size // 2)
        if size == 1:  # only what it reads is smoothed: every second pixel of every second line
            return F.conv2d(self.smooth(x, stride=2), weight)
        return F.conv2d(self.smooth(x), weight, stride=2)


class Smooth(nn.Module):
    """The separable filter [1, 3, 3, 1] / 8 on each channel: [B, C, H, W] → [B, C, H + s, W + s].

    grow: s + 1, from 0 (s = -1) on; zeros lie around the picture. gain: of the sum of its taps.
    """

    taps: Tensor  # [4, 4]

    def __init__(self, grow: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("taps", filter_taps(TAPS) * gain, persistent=False)
        total = len(TAPS) - 2 + grow  # of zeros around an axis, one more before than after if odd
        before, after = (total + 1) // 2, total // 2
        self.zeros = (before, after, before, after)

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """Filter x; stride: keep every so manyth pixel of every so manyth line."""
        channels = x.shape[1]
        taps = self.taps.to(x.dtype).expand(channels, 1, -1, -1)
        before, after = self.zeros[:2]
        if before == after:
            return F.conv2d(x, taps, padding=before, stride=stride, groups=channels)
        return F.conv2d(F.pad(x, self.zeros), taps, stride=stride, groups=channels)


class Upsample(nn.Module):
    """[B, C, H, W] → [B, C, 2H, 2W]: zeros between the pixels, then the filter with gain 4."""

    taps: Tensor  # [4, 4]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", filter_taps(TAPS) * 4, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        # What a transposed convolution with stride 2 does; the filter is symmetric.
        taps = self.taps.to(x.dtype).expand(channels, 1, -1, -1)
        return F.conv_transpose2d(x, taps, stride=2, padding=1, groups=channels)


def filter_taps(taps: Sequence[float]) -> Tensor:
    """Return the outer product of the taps with themselves, of sum 1: [n, n]."""
    line = torch.tensor(taps)
    square = torch.outer(line, line)
    return square / square.sum()


class Modulated(nn.Module):
    """A convolution with input channels scaled by a style: [B, in, H, W], [B, W] → [B, out, ...].

        s = A w + b                       one scale per input channel, b starts at 1
        y = d · (W * (s · x))             d[b, o] = 1 / √(Σ_{i,k} (W[o, i, k] s[b, i])² + 1e-8)

    which equals a convolution of each sample with weights of its own (the paper's Eq. 1 and 3), but
    is one convolution for the whole batch. demodulate: with d; without it W is equalised instead.
    up: to twice the side, by a transposed convolution and the filter.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        w_dim: int,
        *,
        up: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.affine = Linear(w_dim, in_channels, start=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.scale = 1 / math.sqrt(in_channels * size * size)
        self.up, self.demodulate = up, demodulate
        self.smooth = Smooth(0, gain=4.0) if up else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = at_least_float32(self.affine(w))  # [B, in]
        weight = self.weight * self.scale
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.smooth is None:
            x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
        else:
            x = self.smooth(F.conv_transpose2d(x, weight.to(x.dtype).transpose(0, 1), stride=2))
        if not self.demodulate:
            return x
        power = at_least_float32(weight).square().sum(dim=(2, 3))  # [out, in]
        lengths = style.square() @ power.T  # [B, out]
        return x * torch.rsqrt(lengths + EPS).to(x.dtype)[:, :, None, None]
