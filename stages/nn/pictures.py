"""Pictures as stored, uint8 [B, H, W, 3], and as generators see and draw them: [-1, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from avdata.store import Store


def as_pictures(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return uint8 [B, H, W, 3] as float32 [B, 3, H, W] in [-1, 1] on the device."""
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
    return x.div_(127.5).sub_(1)


def as_images(x: Tensor) -> NDArray[np.uint8]:
    """Return pictures [B, 3, H, W] in [-1, 1] as uint8 [B, H, W, 3], clamped."""
    scaled = x.detach().float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    images: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return images


def sheet(columns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one picture [rows · H, columns · W, 3] of pictures uint8 [columns, rows, H, W, 3]."""
    n_columns, n_rows, height, width = columns.shape[:4]
    lines = columns.transpose(1, 2, 0, 3, 4)  # [rows, H, columns, W, 3]
    return lines.reshape(n_rows * height, n_columns * width, 3)


def save_png(image: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 [H, W, 3] as PNG, at once."""
    with Store(str(path.parent)).writing(path.name) as beside:
        Image.fromarray(image).save(beside, "PNG")
