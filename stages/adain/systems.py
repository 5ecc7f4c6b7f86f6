"""AdaIN in the comparison: the style is a training frame of what is heard.

AVStyle's paper tells no more than that a picture stands for the sound. Here it is the best frame of
a training clip of the sound's class, drawn by clip and seed: the class is known, not heard, so this
is at its best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avdata.errors import ShardError
from avdata.seeding import rng_for
from stages.evaluation.asks import Asks
from stages.evaluation.contents import of_another_class
from stages.evaluation.system import OF_PICTURES, System
from stages.pairs.classes import read_classes

if TYPE_CHECKING:
    from stages.evaluation.studio import Studio
    from stages.pairs.clips import Clips
    from stages.pairs.samples import Samples

FAMILY = "adain"
RESTYLED = ("correspondence", "scene_changes", "clip_text", "follows", "structure")


def restyled(studio: Studio, number: int) -> Samples:
    """Return frames of other classes in the style of training frames of the sounds' classes."""
    asks = Asks(clips=studio.test, contents=of_another_class(studio), styles=styles(studio, number))
    return studio.painted(FAMILY, asks, number)


def styles(studio: Studio, number: int) -> Clips:
    """Return for each test clip a training clip of its class; number: another draw.

    Raises ShardError for a class of which no training clip is.
    """
    known = read_classes(studio.train.store.root, studio.train.split)
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(studio.train.keys):
        for own in known.of_clip[key][:1]:
            rows.setdefault(known.names[own], []).append(row)
    chosen = []
    for key, name in zip(studio.test.keys, studio.classes, strict=True):
        if name not in rows:
            raise ShardError(
                f"no clip of {studio.train.split} is of the class {name}, which {key} has: AdaIN "
                "finds no style for it; leave the class out by classes_file"
            )
        rng = rng_for(studio.seed, f"style {number}", key)
        chosen.append(rows[name][int(rng.integers(len(rows[name])))])
    return studio.train.chosen(chosen)


SYSTEMS = (
    System(
        name="adain",
        title="AdaIN (style: a training frame of the sound's class)",
        samples=restyled,
        figures=(*OF_PICTURES, *RESTYLED),
        varies=True,
        contents=of_another_class,
    ),
)
