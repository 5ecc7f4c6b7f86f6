"""The systems of the comparison: pictures moved by held-out sounds, and what to hold against them.

sound_guided         what the generator draws of noise, moved by the clip's sound
text_guided          the same start, moved by the name of the clip's class: the text-guided baseline
unmoved              the start itself: what hears nothing and changes nothing
regenerated          moved by the sound from other noise, held against the first start: what keeping
                     the picture is worth
audio_text           the first start, moved by both
sound_guided_frame   the frame of a clip of another class, found again and moved by the sound
inverted             that frame, found again and not moved

The last three are scored where they are named: each frame has to be found first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from avdata.strict import digest
from stages.evaluation.asks import Asks
from stages.evaluation.contents import of_another_class
from stages.evaluation.system import OF_PICTURES, System
from stages.pairs.computed import computed_once, pieces
from stages.pairs.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.evaluation.studio import Studio
    from stages.sound_guided.manipulator import Manipulator

FAMILY = "sound_guided"
VERSION = 1  # raise it when the same asks give other codes
Which = Literal[0, 1]  # of the codes that are kept
SOURCE: Which = 0
MOVED: Which = 1


def painter_of(studio: Studio) -> Manipulator:
    """Return the manipulator."""
    return cast("Manipulator", studio.painter(FAMILY))


def sounds_asked(studio: Studio, gain: float | None = None) -> Asks:
    """Return what the clips' sounds ask of noise."""
    return Asks(clips=studio.test, hears=painter_of(studio).spec, gain=gain)


def texts_asked(studio: Studio) -> Asks:
    """Return what the names of the clips' classes ask of the same noise."""
    return Asks(clips=studio.test, texts=_texts(studio))


def both_asked(studio: Studio) -> Asks:
    """Return what sounds and texts ask together of the same noise."""
    return Asks(clips=studio.test, hears=painter_of(studio).spec, texts=_texts(studio))


def frames_asked(studio: Studio) -> Asks:
    """Return what the clips' sounds ask of frames of other classes."""
    contents = of_another_class(studio)
    return Asks(clips=studio.test, hears=painter_of(studio).spec, contents=contents)


def _texts(studio: Studio) -> list[str]:
    return [name.replace("_", " ") for name in studio.classes]


def codes_of(studio: Studio, asks: Asks, number: int = 0) -> NDArray[np.float32]:
    """Return the codes [N, 2, L, W] of each ask, before and after; searched once and kept."""
    model = painter_of(studio)

    def compute(part: range) -> Iterator[NDArray[np.float32]]:
        for rows in pieces(part, studio.cache.batch_size):
            batch = asks.read(rows, number)
            guidance = model.guidance(batch)
            moved = model.moved(guidance, model.starts(batch, studio.seed, guidance))
            yield torch.stack([moved.source, moved.ws], dim=1).cpu().numpy()

    name = digest(_identity(studio, asks, number))
    folder = studio.pictures / "codes"
    return computed_once(folder, name, len(asks), compute, title="codes that are moved")


def drawn(studio: Studio, asks: Asks, which: Which = MOVED, number: int = 0) -> Samples:
    """Return the pictures of these codes, SOURCE or MOVED, made once and kept."""
    model = painter_of(studio)

    def batches() -> Iterator[NDArray[np.uint8]]:
        codes = codes_of(studio, asks, number)
        for rows in pieces(range(len(asks)), studio.cache.batch_size):
            some = np.array(codes[rows.start : rows.stop, which])
            yield model.pictures_of(torch.from_numpy(some).to(model.device))

    identity = {"drawn": which, **_identity(studio, asks, number)}
    return studio.kept(identity, (len(asks), model.resolution_px), batches)


def _identity(studio: Studio, asks: Asks, number: int) -> dict[str, Any]:
    return {
        "codes": VERSION,
        "painter": painter_of(studio).identity(),
        "asks": asks.identity(),
        "number": number,
        "seed": studio.seed,
    }


def started(studio: Studio) -> Samples:
    """Return what the sounds start from."""
    return drawn(studio, sounds_asked(studio), SOURCE)


RESTYLED = ("follows", "structure", "clip_text", *OF_PICTURES)

SYSTEMS = (
    System(
        name="sound_guided",
        title="Sound-guided (noise, sound → picture)",
        samples=lambda studio, number: drawn(studio, sounds_asked(studio), MOVED, number),
        figures=(*RESTYLED, "louder"),
        varies=True,
        hears=True,
        starts=started,
        at_gain=lambda studio, gain: drawn(studio, sounds_asked(studio, gain)),
    ),
    System(
        name="text_guided",
        title="Text-guided (the same noise, class → picture)",
        samples=lambda studio, _: drawn(studio, texts_asked(studio)),
        figures=RESTYLED,
        starts=lambda studio: drawn(studio, texts_asked(studio), SOURCE),
    ),
    System(
        name="unmoved",
        title="Source, not moved",
        samples=lambda studio, _: started(studio),
        figures=RESTYLED,
        starts=started,
    ),
    System(
        name="regenerated",
        title="Regenerated (other noise, sound → picture)",
        samples=lambda studio, _: drawn(studio, sounds_asked(studio), MOVED, 1),
        figures=RESTYLED,
        hears=True,
        starts=started,
    ),
    System(
        name="audio_text",
        title="Sound and text (the same noise → picture)",
        samples=lambda studio, _: drawn(studio, both_asked(studio)),
        figures=RESTYLED,
        hears=True,
        starts=lambda studio: drawn(studio, both_asked(studio), SOURCE),
        by_default=False,
    ),
    System(
        name="sound_guided_frame",
        title="Sound-guided frame (frame, sound → picture)",
        samples=lambda studio, _: drawn(studio, frames_asked(studio)),
        figures=RESTYLED,
        hears=True,
        contents=of_another_class,
        by_default=False,
    ),
    System(
        name="inverted",
        title="Frame found again, not moved",
        samples=lambda studio, _: drawn(studio, frames_asked(studio), SOURCE),
        figures=RESTYLED,
        contents=of_another_class,
        by_default=False,
    ),
)
