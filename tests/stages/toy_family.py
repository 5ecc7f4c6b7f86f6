"""A second family, as small as one can be: it paints the pitch of a sound as a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avdata.audio.spec import SOUND2SCENE, AudioSpec
from avdata.audio.spectrograms import features
from stages.evaluation.asks import Asks
from stages.evaluation.judged import Column, Judged
from stages.evaluation.papers import PaperTable
from stages.evaluation.studio import Studio
from stages.evaluation.system import System
from stages.family import Family, Opening
from stages.generation.commands import Command, Job
from stages.generation.painter import Ask
from stages.pairs.samples import Samples

COLOURS = {300: (220, 60, 20), 900: (30, 80, 200), 2100: (240, 240, 240)}


class Dauber:
    """Knows the colours of three pitches; dabs at random where asked for several pictures."""

    resolution_px = 20
    spec: AudioSpec = SOUND2SCENE
    sources: Mapping[str, Mapping[str, str]] = {"brush": {"file": "brush", "sha256": "0" * 64}}

    hears = (16_000, 10.0)

    def identity(self) -> dict[str, Any]:
        return {"dauber": 1}

    def spectrogram(self, fitted: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(features(fitted, self.spec))[None]

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        return np.stack([self._paint(ask, seed) for ask in asks])

    def _paint(self, ask: Ask, seed: int) -> NDArray[np.uint8]:
        assert ask.sound is not None
        x, rate = ask.sound.samples, ask.sound.rate_hz
        pitch = np.argmax(np.abs(np.fft.rfft(x))) * rate / len(x)
        colour = COLOURS[min(COLOURS, key=lambda hz: abs(hz - pitch))]
        rng = np.random.default_rng([seed, ask.number, *ask.key.encode()])
        return np.uint8(np.clip(colour + rng.normal(0, 5, (20, 20, 3)), 0, 255))


def by_ear(studio: Studio, number: int) -> Samples:
    return studio.painted("toy", Asks(clips=studio.test, hears=SOUND2SCENE), number)


def greyness(judged: Judged) -> dict[str, Any]:
    mean = float(np.mean([np.ptp(p.mean(axis=(0, 1))) for p in judged.samples.read(range(4))]))
    return {"greyness": {"value": mean, "low": mean, "high": mean}}


def dab(job: Job) -> None:
    """Dab once."""
    print(f"a dab of {job.painter.resolution_px} px on {job.given.device}")


def open_dauber(opening: Opening) -> Dauber:
    assert opening.options == {}
    return Dauber()


FAMILY = Family(
    name="toy",
    title="Toy",
    paper="none",
    parts={"brush": "train_toy"},
    abilities=frozenset({"hears"}),
    open=open_dauber,
    systems=(
        System(
            name="dauber",
            title="Dauber (pitch → colour)",
            samples=by_ear,
            figures=("recall", "diversity", "greyness"),
            varies=True,
            hears=True,
        ),
    ),
    commands=(Command(work=dab, needs=frozenset({"hears"}), options=()),),
    benchmark=PaperTable("Toys", "The toy paper", ("R@1",), (("dauber", (77.25,)),)),
    figures={"greyness": greyness},
    columns=(Column("greyness", "greyness", digits=1),),
)
