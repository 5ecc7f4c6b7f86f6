"""The systems of the paper's comparison: a held-out picture restyled by a held-out sound.

avstyle   the frame of a clip of another class, restyled by the clip's sound
content   the same frame as it was: what hears nothing and changes nothing

The frames of the sounds' own clips are `upper_bound`, the paper's "target".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stages.evaluation.asks import Asks
from stages.evaluation.contents import of_another_class
from stages.evaluation.system import OF_PICTURES, System
from stages.pairs.samples import Samples, frames_of

if TYPE_CHECKING:
    from stages.evaluation.studio import Studio
    from stages.generation.painter import Hears

FAMILY = "avstyle"


def restyled(studio: Studio, _: int) -> Samples:
    """Return frames of other classes restyled by the test clips' sounds; there is no noise."""
    return _painted(studio, None)


def at_gain(studio: Studio, gain: float) -> Samples:
    """Return the same with all sounds amplified once their peaks are normalised."""
    return _painted(studio, gain)


def _painted(studio: Studio, gain: float | None) -> Samples:
    spec = cast("Hears", studio.painter(FAMILY)).spec
    contents = of_another_class(studio)
    asks = Asks(clips=studio.test, hears=spec, contents=contents, gain=gain)
    return studio.painted(FAMILY, asks)


def unchanged(studio: Studio, _: int) -> Samples:
    """Return the same frames, at the size at which they are restyled."""
    side = studio.painter(FAMILY).resolution_px
    return frames_of(of_another_class(studio)).resized(side)


RESTYLED = (
    *("correspondence", "scene_changes", "clip_text", "follows", "structure"),
    *OF_PICTURES,
)

SYSTEMS = (
    System(
        name="avstyle",
        title="AVStyle (picture, sound → picture)",
        samples=restyled,
        figures=(*RESTYLED, "louder"),
        hears=True,
        contents=of_another_class,
        at_gain=at_gain,
    ),
    System(
        name="content",
        title="Content unchanged",
        samples=unchanged,
        figures=RESTYLED,
        contents=of_another_class,
    ),
)
