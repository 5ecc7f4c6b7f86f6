"""The nonlinearity between two filters, and the filters: what keeps StyleGAN3 free of aliases.

Karras et al., Alias-Free Generative Adversarial Networks, NeurIPS 2021. A pointwise nonlinearity
makes frequencies that the grid cannot hold; so the signal goes to a finer grid first, and what the
coarse one cannot hold is filtered off on the way back (the paper's Section 3.1, Appendix C.3).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
GAIN = math.sqrt(2)
LARGEST = 256.0  # to which activations are clamped


def lowpass(taps: int, cutoff_hz: float, width_hz: float, rate_hz: float) -> Tensor:
    """Return a low-pass filter [taps] of sum 1: a sinc under a Kaiser window.

    width_hz: of the transition band around the cutoff. The window's β follows from it:
    A = 2.285 (n - 1) π w + 7.95 with w = width / (rate / 2), and Kaiser's formula for β(A).
    """
    attenuation = 2.285 * (taps - 1) * math.pi * width_hz / (rate_hz / 2) + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    n = np.arange(taps) - (taps - 1) / 2
    line = np.sinc(2 * cutoff_hz / rate_hz * n) * np.kaiser(taps, beta)
    return torch.from_numpy(line / line.sum()).float()


class Filtered(nn.Module):
    """Bias, finer grid, leaky ReLU, coarser grid: [B, C, N, N] → [B, C, M, M].

    up, down: factors, each with its filter, or None where the factor is 1. The middles of both
    grids lie on each other, so that nothing is shifted. linear: without the nonlinearity.
    """

    up_taps: Tensor
    down_taps: Tensor

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        up: int,
        up_taps: Tensor | None,
        down: int,
        down_taps: Tensor | None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        one = torch.ones(1)
        # The zeros between the samples would make all weaker by their share.
        self.register_buffer("up_taps", (one if up_taps is None else up_taps) * up, False)
        self.register_buffer("down_taps", one if down_taps is None else down_taps, False)
        self.up, self.down, self.linear = up, down, linear
        self.needed = (n_out - 1) * down + len(self.down_taps)  # samples of the finer grid
        self.spare = (n_in - 1) * up + len(self.up_taps) - self.needed
        if self.spare % 2:
            raise ValueError(f"{n_in} samples × {up} and {n_out} × {down} have no common middle")

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + bias.to(x.dtype)[:, None, None]
        x = self._finer(self._finer(x, axis=2), axis=3)
        if not self.linear:
            x = F.leaky_relu(x, SLOPE) * GAIN
        x = x.clamp(-LARGEST, LARGEST)
        return self._coarser(self._coarser(x, axis=2), axis=3)

    def _finer(self, x: Tensor, axis: int) -> Tensor:
        """Put zeros between the samples, filter, and keep the middle of what comes out."""
        if len(self.up_taps) > 1:
            stride = (self.up, 1) if axis == 2 else (1, self.up)
            taps = _along(self.up_taps, x, axis)
            x = F.conv_transpose2d(x, taps, stride=stride, groups=x.shape[1])
        cut = -(self.spare // 2)  # below 0: samples go; above: zeros come
        return F.pad(x, (0, 0, cut, cut) if axis == 2 else (cut, cut))

    def _coarser(self, x: Tensor, axis: int) -> Tensor:
        """Filter, and keep every so manyth sample."""
        if len(self.down_taps) == 1:
            return x
        stride = (self.down, 1) if axis == 2 else (1, self.down)
        return F.conv2d(x, _along(self.down_taps, x, axis), stride=stride, groups=x.shape[1])


def _along(taps: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return the filter for each channel of x by itself: [C, 1, n, 1], or [C, 1, 1, n]."""
    shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
    return taps.to(x.dtype).reshape(shape).expand(x.shape[1], -1, -1, -1)
