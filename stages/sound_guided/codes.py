"""Latent codes: what a picture is made of, where they start, and files that keep them.

A code is ws [L, W], a latent for each layer of a generator. It starts at a truncated random one,
w' = w̄ + ψ (w − w̄), or at one that was found for a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from avdata.errors import SettingsError, WeightsError
from stages.engine.rng import generator_for
from stages.nn.published import read_plain

MEAN_OF = 4096  # random latents


class LatentGenerator(Protocol):
    """A generator whose pictures are made of a latent for each layer."""

    resolution: int
    z_dim: int
    w_dim: int
    n_latents: int

    def mapping(self, z: Tensor) -> Tensor:
        """Return w [B, W] of noise [B, Z]."""
        ...

    def synthesis(self, ws: Tensor) -> Tensor:
        """Return pictures [B, 3, R, R], about [-1, 1], of codes [B, L, W], with fixed noise."""
        ...


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of w over random noise, [W] each."""

    mean: Tensor
    deviation: Tensor


@torch.no_grad()
def spread_of(generator: LatentGenerator, device: torch.device) -> Spread:
    """Return the spread of 4096 latents, the same ones wherever they are asked for."""
    rng = generator_for(0, "latents", "spread", torch.device("cpu"))
    z = torch.randn(MEAN_OF, generator.z_dim, generator=rng).to(device)
    w = torch.cat([generator.mapping(part) for part in torch.split(z, 512)])
    return Spread(w.mean(dim=0), w.std(dim=0))


def noise_of(generator: LatentGenerator, key: str, number: int, seed: int) -> Tensor:
    """Return z [Z] of one picture, drawn on the CPU by a generator of its own."""
    rng = generator_for(seed, "manipulate", f"{key}/{number}", torch.device("cpu"))
    return torch.randn(generator.z_dim, generator=rng)


@torch.no_grad()
def truncated(generator: LatentGenerator, z: Tensor, mean: Tensor, psi: float) -> Tensor:
    """Return codes [B, L, W] of noise [B, Z], ψ of the way from the mean latent [W]."""
    w = mean.lerp(generator.mapping(z), psi)
    return w[:, None].expand(-1, generator.n_latents, -1).contiguous()


def mixed_layers(first: Tensor, second: Tensor) -> Tensor:
    """Return codes [B, L, W] whose first half of the layers is of one, the rest of another.

    Of 18 layers 1–9 and 10–18, as the paper mixes a sound's with a text's.
    """
    half = first.shape[1] // 2
    return torch.cat([first[:, :half], second[:, half:]], dim=1)


def read_codes(paths: Sequence[str | Path], generator: LatentGenerator) -> Tensor:
    """Return saved codes [N, L, W] of files .npy, .pt, .pth or .safetensors.

    A file holds [L, W], [N, L, W], or tables of them by name. Nothing in it is executed. Raises
    WeightsError for a file that cannot be read, SettingsError for codes of another generator.
    """
    found = [code for path in paths for code in _arrays(Path(path))]
    return torch.cat([fitting(code, generator, path) for path, code in found])


def fitting(code: Tensor, generator: LatentGenerator, where: str | Path) -> Tensor:
    """Return codes as [N, L, W]; raises SettingsError if this generator has no such codes."""
    wanted = (generator.n_latents, generator.w_dim)
    code = code.float()
    code = code[None] if code.ndim == 2 else code
    if code.ndim != 3 or tuple(code.shape[1:]) != wanted:
        raise SettingsError(
            f"{where} holds a code of shape {list(code.shape)}, the generator (at "
            f"{generator.resolution} px) takes {wanted[0]} latents of {wanted[1]} numbers, [N, "
            f"{wanted[0]}, {wanted[1]}]: it was inverted with a generator of another size; invert "
            "the picture again with this one"
        )
    if not code.isfinite().all():
        raise SettingsError(f"{where} holds a code with numbers that are not finite")
    return code


def _arrays(path: Path) -> list[tuple[Path, Tensor]]:
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
            return [(path, torch.from_numpy(np.asarray(array, np.float32)))]
        except (OSError, ValueError, TypeError) as error:
            raise WeightsError(
                f"cannot read the code {path}: {error}; save it as an array of numbers, without "
                "pickled objects"
            ) from None
    content = read_plain(path)
    if isinstance(content, Tensor):
        return [(path, content)]
    if isinstance(content, dict):
        values = [content[name] for name in sorted(content, key=str)]
        if values and all(isinstance(value, Tensor) for value in values):
            return [(path, value) for value in values]
    raise WeightsError(f"{path} holds no latent codes: a tensor [L, W], or several by name")
