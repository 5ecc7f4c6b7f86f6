"""AVStyle's generator and discriminator written once more, in float64, with numpy and scipy where
the networks have layers of their own: what is published, step by step and without short cuts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]


def halved(x: Tensor) -> Tensor:
    """[1, 2, 1] / 4 along both axes, mirrored about the edge pixels; every second pixel."""
    y: NDArray[np.float64] = x.numpy()
    for axis in (2, 3):
        y = correlate1d(y, [0.25, 0.5, 0.25], axis=axis, mode="mirror")
    return torch.from_numpy(y[:, :, ::2, ::2].copy())


def doubled(x: Tensor) -> Tensor:
    """The closed form, an axis at a time: (prev + 3 cur) / 4 and (3 cur + next) / 4."""
    y: NDArray[np.float64] = x.numpy()
    for axis in (2, 3):
        y = np.moveaxis(y, axis, -1)
        wide = np.pad(y, [(0, 0)] * 3 + [(1, 1)], mode="edge")
        even, odd = (wide[..., :-2] + 3 * y) / 4, (3 * y + wide[..., 2:]) / 4
        y = np.moveaxis(np.stack([even, odd], -1).reshape(*y.shape[:-1], -1), -1, axis)
    return torch.from_numpy(y.copy())


def normalised(x: Tensor) -> Tensor:
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


def reflected(x: Tensor, n: int) -> Tensor:
    return torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (n, n), (n, n)], mode="reflect"))


def conv(state: State, name: str, x: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def film(state: State, name: str, x: Tensor, heard: Tensor) -> Tensor:
    """Scale and shift, where this norm has any."""
    if f"{name}.film.weight" not in state:
        return x
    both = heard @ state[f"{name}.film.weight"].T + state[f"{name}.film.bias"]
    scale, shift = both[:, : x.shape[1]], both[:, x.shape[1] :]
    return x * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def block(state: State, name: str, x: Tensor, heard: Tensor) -> Tensor:
    y = normalised(conv(state, f"{name}.conv1", reflected(x, 1)))
    y = film(state, f"{name}.norm1", y, heard).relu()
    y = normalised(conv(state, f"{name}.conv2", reflected(y, 1)))
    return x + film(state, f"{name}.norm2", y, heard)


def generate(
    state: State, x: Tensor, heard: Tensor, *, told: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the picture, and every feature on the way; told: the sound is concatenated."""
    seen = {"padded": reflected(x, 3)}
    y = normalised(conv(state, "content.first", seen["padded"])).relu()
    seen["down1"] = conv(state, "content.down1", y, padding=1)
    y = halved(normalised(seen["down1"]).relu())
    seen["down2"] = conv(state, "content.down2", y, padding=1)
    y = halved(normalised(seen["down2"]).relu())
    number = 0
    for part in ("content", "drawing"):
        place = 0
        while f"{part}.blocks.{place}.conv1.weight" in state:
            y = block(state, f"{part}.blocks.{place}", y, heard)
            place, number = place + 1, number + 1
            seen[f"block {number}"] = y
    if told:
        tiled = heard[:, :, None, None].repeat(1, 1, *y.shape[2:])
        y = torch.cat([y, tiled], dim=1)
    seen["up1"] = conv(state, "drawing.up1", doubled(y), padding=1)
    y = film(state, "drawing.norm1", normalised(seen["up1"]), heard).relu()
    y = normalised(conv(state, "drawing.up2", doubled(y), padding=1))
    y = film(state, "drawing.norm2", y, heard).relu()
    return conv(state, "drawing.last", reflected(y, 3)).tanh(), seen


def discriminate(state: State, y: Tensor) -> Tensor:
    """y: [B, 6 or 3, H, W], as the first convolution sees it."""
    y = F.leaky_relu(conv(state, "first", y, padding=1), 0.2)
    for number in range(3):
        y = conv(state, f"inner.{number}", halved(y), padding=1)
        y = F.leaky_relu(normalised(y), 0.2)
    return conv(state, "last", y, padding=1)
