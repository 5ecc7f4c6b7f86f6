"""A family that restyles, as small as one can be: it adds what it hears to a picture as light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avdata.audio.spec import AVSTYLE, AudioSpec
from avdata.audio.spectrograms import spectrogram
from avdata.frames import squash
from stages.evaluation.system import REAL, System
from stages.family import Family, Opening
from stages.generation.inputs import Sound
from stages.generation.painter import Ask
from stages.generation.sounds import fit
from stages.nn.encoder import Encoder


class Lamp:
    """Lights a picture by the loudest sample of a fitted sound, 100 of 255 for full scale.

    seen: how many pictures it has looked at. heard: how many sounds.
    """

    resolution_px = 16
    spec: AudioSpec = AVSTYLE
    hears = (16_000, 3.0)
    sources: Mapping[str, Mapping[str, str]] = {"bulb": {"file": "bulb", "sha256": "0" * 64}}

    def __init__(self) -> None:
        self.seen = self.heard = 0

    def identity(self) -> dict[str, Any]:
        return {"lamp": 1}

    @property
    def sound_encoder(self) -> Encoder:
        raise NotImplementedError

    def spectrogram(self, fitted: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(spectrogram(fitted, self.spec))[None]

    def sized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return squash(image, 24, 16)

    def content(self, images: NDArray[np.uint8]) -> torch.Tensor:
        self.seen += len(images)
        return torch.tensor(images, dtype=torch.float32)

    def style(self, sounds: Sequence[Sound]) -> torch.Tensor:
        self.heard += len(sounds)
        return torch.tensor([[float(np.abs(fit(s, self.spec)).max())] for s in sounds])

    def restyled(self, content: torch.Tensor, style: torch.Tensor) -> NDArray[np.uint8]:
        lit = content + 100 * style[:, :, None, None]
        return lit.clamp(0, 255).round().byte().numpy()

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        raise NotImplementedError


LAMPS: list[Lamp] = []
"""Those that were opened, last one last."""


def open_lamp(_: Opening) -> Lamp:
    LAMPS.append(Lamp())
    return LAMPS[-1]


FAMILY = Family(
    name="lamp",
    title="Lamp",
    paper="none",
    parts={"bulb": "train_lamp"},
    abilities=frozenset({"hears", "restyles"}),
    open=open_lamp,
    systems=(System(name="lamp", title="Lamp", samples=REAL.samples),),
)
