"""The systems of the comparison: pictures moved by held-out sounds.

sound_guided   what the generator draws of noise, moved by the clip's sound
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stages.evaluation.asks import Asks
from stages.evaluation.system import OF_PICTURES, System
from stages.pairs.samples import Samples

if TYPE_CHECKING:
    from stages.evaluation.studio import Studio
    from stages.sound_guided.manipulator import Manipulator

FAMILY = "sound_guided"


def by_sound(studio: Studio, number: int) -> Samples:
    """Return pictures of noise moved by the test clips' sounds; number: of other noise."""
    painter = cast("Manipulator", studio.painter(FAMILY))
    return studio.painted(FAMILY, Asks(clips=studio.test, hears=painter.spec), number)


SYSTEMS = (
    System(
        name="sound_guided",
        title="Sound-guided (noise, sound → picture)",
        samples=by_sound,
        figures=OF_PICTURES,
        varies=True,
        hears=True,
    ),
)
