"""Pictures to restyle: of each test clip, the frame of a clip of another class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avdata.errors import ShardError
from avdata.seeding import rng_for

if TYPE_CHECKING:
    from stages.evaluation.studio import Studio
    from stages.pairs.clips import Clips


def of_another_class(studio: Studio) -> Clips:
    """Return for each test clip another one, drawn by clip and seed among those of other classes.

    So no picture shows what is heard before it is restyled. Raises ShardError where the test clips
    are all of one class.
    """
    chosen = []
    for key, own in zip(studio.test.keys, studio.classes, strict=True):
        others = [row for row, name in enumerate(studio.classes) if name != own]
        if not others:
            raise ShardError(
                f"all {len(studio.test)} clips of {studio.test.split} are of the class {own}; "
                "restyling is scored on pictures of another class than the sound's: choose a "
                "split with two or more"
            )
        chosen.append(others[int(rng_for(studio.seed, "content", key).integers(len(others)))])
    return studio.test.chosen(chosen)
