"""Halving and doubling of feature maps without aliasing.

Zhang, Making Convolutional Networks Shift-Invariant Again, ICML 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BlurPool(nn.Module):
    """[1, 2, 1] ⊗ [1, 2, 1] / 16 over each channel, every second pixel: [B, C, H, W] →
    [B, C, ⌈H / 2⌉, ⌈W / 2⌉]; what lies beyond the edge is reflected."""

    kernel: Tensor  # [1, 1, 3, 3]

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        # A constant: no part of checkpoints.
        self.register_buffer("kernel", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype.itemsize < 4:
            # On the CPU the gradient of this convolution takes 3 times as long in half precision.
            with torch.autocast("cpu", enabled=False):
                return self._halved(x.float()).to(x.dtype)
        return self._halved(x)

    def _halved(self, x: Tensor) -> Tensor:
        channels = int(x.shape[1])  # a number, too, where this is traced for any size
        kernel = self.kernel.expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, stride=2, groups=channels)


def doubled(x: Tensor) -> Tensor:
    """Return [B, C, 2 H, 2 W] of [B, C, H, W]: [1, 3, 3, 1] / 4 along each axis, edges repeated.

    y[2 i] = (x[i − 1] + 3 x[i]) / 4 and y[2 i + 1] = (3 x[i] + x[i + 1]) / 4, which is what
    bilinear interpolation between the centres of pixels comes to.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
