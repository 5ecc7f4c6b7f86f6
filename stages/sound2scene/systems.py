"""The systems of the paper's comparison, one picture for each test clip.

sound2scene   G(z, z^A): what the clip's sound looks like
icgan         G(z, z^V): a picture like the clip's own frame; hears nothing
retrieval     the training frame whose z^V is nearest to z^A
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from stages.evaluation.asks import Asks
from stages.evaluation.system import OF_PICTURES, System
from stages.metrics.gap import unit
from stages.pairs.samples import Samples, frames_of, sounds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.evaluation.studio import Studio
    from stages.pairs.features import FeatureTable
    from stages.sound2scene.scene import Sound2Scene

FAMILY = "sound2scene"
BLOCK_ROWS = 1024  # of similarities held at once


def from_sound(studio: Studio, number: int) -> Samples:
    """Return pictures of the test clips' sounds."""
    asks = Asks(clips=studio.test, hears=_model(studio).spec)
    return studio.painted(FAMILY, asks, number)


def from_frame(studio: Studio, number: int) -> Samples:
    """Return pictures like the test clips' own frames."""
    return studio.painted(FAMILY, Asks(clips=studio.test, contents=studio.test), number)


def retrieved(studio: Studio, _: int) -> Samples:
    """Return the training frame nearest to each test clip's sound."""
    known = studio.cache.of(frames_of(studio.train), _model(studio).picture_encoder)
    return frames_of(studio.train).chosen(nearest(z_a(studio).values, known.values).tolist())


def spaces(studio: Studio) -> tuple[FeatureTable, FeatureTable]:
    """Return z^V of the test clips' frames and z^A of their sounds."""
    return studio.cache.of(frames_of(studio.test), _model(studio).picture_encoder), z_a(studio)


def z_a(studio: Studio) -> FeatureTable:
    """Return z^A of the test clips' sounds."""
    model = _model(studio)
    sounds = sounds_of(studio.test, model.spec.sample_rate_hz)
    return studio.cache.of(sounds, model.sound_encoder)


def nearest(queries: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each query [Q, D] the row of `known` [N, D] at the smallest angle, [Q]."""
    x, y = unit(queries), unit(known)
    blocks = [x[first : first + BLOCK_ROWS] @ y.T for first in range(0, len(x), BLOCK_ROWS)]
    return np.concatenate([block.argmax(axis=1) for block in blocks])


def _model(studio: Studio) -> Sound2Scene:
    return cast("Sound2Scene", studio.painter(FAMILY))


DRAWN = (*OF_PICTURES, "diversity")

SYSTEMS = (
    System(
        name="sound2scene",
        title="Sound2Scene (sound → picture)",
        samples=from_sound,
        figures=DRAWN,
        varies=True,
        hears=True,
    ),
    System(
        name="icgan",
        title="ICGAN (picture → picture)",
        samples=from_frame,
        figures=DRAWN,
        varies=True,
    ),
    System(
        name="retrieval",
        title="Retrieval (nearest training frame)",
        samples=retrieved,
        hears=True,
    ),
)
