"""The systems of the paper's comparison: a held-out picture restyled by a held-out sound.

avstyle           the frame of a clip of another class, restyled by the clip's sound; of a training
                  with condition classes or keyword, by what the shards say of the clip
class_prediction  by what YAMNet heard in the clip; trained by the row of that name of the ablations
keyword           by the clip's labels; likewise
content           the same frame as it was: what hears nothing and changes nothing

The frames of the sounds' own clips are `upper_bound`, the paper's "target".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from avdata.measures import class_names
from stages.avstyle.conditions import read_told
from stages.evaluation.asks import Asks
from stages.evaluation.contents import of_another_class
from stages.evaluation.system import OF_PICTURES, System
from stages.pairs.samples import Samples, frames_of

if TYPE_CHECKING:
    from stages.avstyle.restyler import Restyler
    from stages.evaluation.studio import Studio

FAMILY = "avstyle"


def restyled(studio: Studio, _: int) -> Samples:
    """Return frames of other classes restyled by the test clips' sounds; there is no noise."""
    return _painted(studio)


def at_gain(studio: Studio, gain: float) -> Samples:
    """Return the same with all sounds amplified once their peaks are normalised."""
    return _painted(studio, gain=gain)


def by_class_prediction(studio: Studio, _: int) -> Samples:
    """Return the same by the baseline that is told what YAMNet heard."""
    return _painted(studio, f"{FAMILY}/class_prediction")


def by_keyword(studio: Studio, _: int) -> Samples:
    """Return the same by the baseline that is told the labels."""
    return _painted(studio, f"{FAMILY}/keyword")


def _painted(studio: Studio, name: str = FAMILY, gain: float | None = None) -> Samples:
    painter = cast("Restyler", studio.painter(name))
    contents = of_another_class(studio)
    if painter.classes is None:
        asks = Asks(clips=studio.test, hears=painter.spec, contents=contents, gain=gain)
    else:
        texts = told_of(studio, painter.classes)
        asks = Asks(clips=studio.test, contents=contents, texts=texts)
    return studio.painted(name, asks)


def told_of(studio: Studio, classes: tuple[str, ...]) -> list[str]:
    """Return what a baseline is told of each test clip: scores by class, as JSON.

    YAMNet's classes: what it heard in the clip. Others: the clip's labels. Classes that were not
    there in training are left out.
    """
    heard = classes == tuple(class_names())
    known = read_told(
        studio.train.store.root, "classes" if heard else "keyword", studio.train.split
    )
    return [
        json.dumps(
            {
                known.names[n]: score
                for n, score in sorted(known.of_clip[key].items())
                if known.names[n] in classes
            }
        )
        for key in studio.test.keys
    ]


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
        name="class_prediction",
        title="Class prediction (picture, YAMNet's scores → picture)",
        samples=by_class_prediction,
        figures=RESTYLED,
        contents=of_another_class,
        by_default=False,
    ),
    System(
        name="keyword",
        title="Keyword (picture, labels → picture)",
        samples=by_keyword,
        figures=RESTYLED,
        contents=of_another_class,
        by_default=False,
    ),
    System(
        name="content",
        title="Content unchanged",
        samples=unchanged,
        figures=RESTYLED,
        contents=of_another_class,
    ),
)
