"""Pictures as stored, uint8 [B, H, W, 3], and as generators see and draw them: [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_pictures(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return uint8 [B, H, W, 3] as float32 [B, 3, H, W] in [-1, 1] on the device."""
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
    return x.div_(127.5).sub_(1)


def as_images(x: Tensor) -> NDArray[np.uint8]:
    """Return pictures [B, 3, H, W] in [-1, 1] as uint8 [B, H, W, 3], clamped."""
    scaled = x.detach().float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    images: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images
