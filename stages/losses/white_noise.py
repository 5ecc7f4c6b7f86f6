"""Is a map of noise still white? What keeps pictures out of noise that is searched."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_PX = 8


def autocorrelation(noise: Tensor) -> Tensor:
    """Return of maps [B, 1, S, S] how alike neighbours are, [B]; about 0 if they are white.

        Σ over scales (mean x · x→)² + (mean x · x↓)²

    x→ and x↓ are x moved by one place, its edge coming in at the other side. From scale to scale
    2 × 2 means times 2, which leave the deviation of white noise as it is, down to 8 px (Karras et
    al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, Appendix D).
    """
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (2, 3):
            alike = (noise * torch.roll(noise, 1, dims=axis)).mean(dim=(1, 2, 3))
            total = total + alike.square()
        if noise.shape[-1] <= LEAST_PX:
            return total
        noise = 2 * F.avg_pool2d(noise, 2)
