"""A generator, a space of pictures and texts, and an ear, as small as they can be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avdata.audio.spec import AVSTYLE, AudioSpec
from stages.generation.inputs import Picture, Sound
from stages.nn.encoder import Encoder
from stages.nn.frontend import Frontend
from stages.sound_guided.codes import spread_of
from stages.sound_guided.inversion import Projector, ProjectorSettings
from stages.sound_guided.latent_optimisation import Search
from stages.sound_guided.manipulator import Manipulator
from stages.stylegan2.generator import Generator

CPU = torch.device("cpu")
SIDE, DIM = 16, 6
SIZES: dict[str, Any] = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "base": 128, "most": 8}


def generator(resolution: int = SIDE, seed: int = 0) -> Generator:
    """A random one, whose noise shows."""
    torch.manual_seed(seed)
    network = Generator(resolution=resolution, **SIZES)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("noise_gain"):
                parameter.fill_(0.1)
    return network.eval()


class Eye(Encoder):
    """Unit vectors of colours in 16 places; texts by their letters. seen_pictures: how many."""

    def __init__(self) -> None:
        self.dim, self.name, self.description = DIM, "tiny eye", "a tiny eye"
        rng = torch.Generator().manual_seed(3)
        self.weight = torch.randn(DIM, 3 * 16, generator=rng).requires_grad_()
        self.seen_pictures = 0

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "tiny eye", "sha256": "0" * 64}

    def seen(self, images: Tensor) -> Tensor:
        self.seen_pictures += len(images)
        pooled = F.adaptive_avg_pool2d(images.clamp(-1, 1), 4).flatten(1)
        weight = self.weight.to(pooled.dtype)
        return F.normalize(pooled @ weight.T, dim=1)

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        squares = [torch.from_numpy(np.array(i)).permute(2, 0, 1)[None] / 127.5 - 1 for i in images]
        found: NDArray[np.float32] = torch.cat([self.seen(x) for x in squares]).detach().numpy()
        return found

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        drawn = [torch.randn(DIM, generator=torch.Generator().manual_seed(s)) for s in seeds]
        found: NDArray[np.float32] = F.normalize(torch.stack(drawn), dim=1).numpy()
        return found


class Ear:
    """Hears where the energy of a sound lies; heard: how many sounds."""

    name, spec, dim, space = "tiny ear", AVSTYLE, DIM, None

    def __init__(self) -> None:
        self.frontend, self.heard = Frontend(AVSTYLE), 0

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "tiny ear"}

    def embed(self, waves: Tensor) -> Tensor:
        self.heard += len(waves)
        bands = self.frontend(waves).mean(dim=(1, 3))[:, :252].reshape(len(waves), DIM, -1)
        return F.normalize(bands.sum(dim=2) - 0.1 * bands.sum(dim=(1, 2))[:, None], dim=1)


def manipulator(**changes: Any) -> Manipulator:
    """All of it put together; few steps."""
    network, ear = generator(), Ear()
    spread = spread_of(network, CPU)
    parts: dict[str, Any] = {
        "generator": network,
        "space": Eye(),
        "embedder": ear,
        "search": Search(steps=20),
        "spread": spread,
        "inverter": Projector(network, spread, ProjectorSettings(steps=30)),
        "device": CPU,
        "sources": {"stylegan2": {"file": "tiny", "sha256": "1" * 64}},
    }
    return Manipulator(**parts | changes)


def tone(hz: float, name: str | None = None, spec: AudioSpec = AVSTYLE) -> Sound:
    t = np.arange(spec.n_samples) / spec.sample_rate_hz
    wave = (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)
    return Sound(name or f"{hz:g} Hz", wave, spec.sample_rate_hz)


def picture(seed: int = 0, side: int = SIDE) -> Picture:
    """One of the generator's own, from elsewhere than it starts."""
    network = generator()
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        made = network.synthesis(network.latents(z))[0]
    image = ((made.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return Picture(f"view {seed}", np.ascontiguousarray(image))
