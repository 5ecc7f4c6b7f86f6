"""A third family: it tints a picture by the pitch of a sound, the more the louder it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avdata.audio.spec import SOUND2SCENE
from avdata.frames import squash
from stages.evaluation.asks import Asks
from stages.evaluation.contents import of_another_class
from stages.evaluation.papers import PaperTable
from stages.evaluation.studio import Studio
from stages.evaluation.system import System
from stages.family import Family, Opening
from stages.generation.painter import Ask
from stages.pairs.samples import Samples, frames_of
from tests.stages.toy_family import COLOURS

SIDE = 24


class Tinter:
    """Mixes the colour of the pitch into the picture, all of it from a peak of .4 on."""

    resolution_px = SIDE
    sources: Mapping[str, Mapping[str, str]] = {"brush": {"file": "brush", "sha256": "0" * 64}}

    def identity(self) -> dict[str, Any]:
        return {"tinter": 1}

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        return np.stack([self._paint(ask) for ask in asks])

    def _paint(self, ask: Ask) -> NDArray[np.uint8]:
        assert ask.sound is not None
        assert ask.picture is not None
        x, rate = ask.sound.samples, ask.sound.rate_hz
        pitch = np.argmax(np.abs(np.fft.rfft(x))) * rate / len(x)
        colour = np.array(COLOURS[min(COLOURS, key=lambda hz: abs(hz - pitch))])
        share = min(1.0, float(np.abs(x).max()) / 0.4)
        return np.uint8((1 - share) * squash(ask.picture.image, SIDE, SIDE) + share * colour)


def at_gain(studio: Studio, gain: float) -> Samples:
    contents = of_another_class(studio)
    asks = Asks(clips=studio.test, hears=SOUND2SCENE, contents=contents, gain=gain)
    return studio.painted("tinters", asks)


def untouched(studio: Studio, number: int) -> Samples:
    return frames_of(of_another_class(studio)).resized(SIDE)


def open_tinter(opening: Opening) -> Tinter:
    return Tinter()


ASKED = (
    *("recall", "frechet", "correspondence", "scene_changes", "clip_text"),
    *("follows", "structure", "louder"),
)

FAMILY = Family(
    name="tinters",
    title="Tinters",
    paper="none",
    parts={"brush": "train_tinter"},
    abilities=frozenset({"hears"}),
    open=open_tinter,
    systems=(
        System(
            name="tinter",
            title="Tinter (picture + pitch)",
            samples=lambda studio, _: at_gain(studio, 1.0),
            figures=ASKED,
            contents=of_another_class,
            at_gain=at_gain,
        ),
        System(
            name="untouched",
            title="Untouched (the picture as it was)",
            samples=untouched,
            figures=ASKED,
            contents=of_another_class,
            at_gain=lambda studio, _: untouched(studio, 0),
        ),
    ),
    benchmark=PaperTable("Table 1", "The restyling paper", ("AVC",), (("tinter", (0.82,)),)),
    papers=(
        PaperTable(
            "Table 1: methods",
            "The restyling paper",
            ("AVC", "FID", "CLIP"),
            (("target", (0.842, None, 0.247)), ("tinter", (0.82, 34.139, 0.238))),
            titles={"target": "Target pictures", "tinter": "Theirs"},
            digits=3,
        ),
        PaperTable(
            "Table 2: scenes",
            "The restyling paper",
            ("fire→sea", "sea→snow"),
            (("tinter", (0.831, 0.816)), ("untouched", (0.7, 0.6))),
            digits=3,
        ),
    ),
)
