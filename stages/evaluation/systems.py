"""The systems that are compared, one picture for each test clip.

sound2scene   G(z, z^A): what the clip's sound looks like
icgan         G(z, z^V): a picture like the clip's own frame; hears nothing
retrieval     the training frame whose z^V is nearest to z^A
upper_bound   the clip's own frame
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from avdata.store import Store
from avdata.strict import digest
from stages.evaluation.encoders import Hearing, Sight
from stages.evaluation.samples import FeatureCache, Samples, Table, frames_of, sounds_of
from stages.metrics.gap import unit
from stages.pairs.clips import Clips
from stages.sound2scene.scene import Sound2Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

System = Literal["sound2scene", "icgan", "retrieval", "upper_bound"]
TITLES: dict[str, str] = {
    "sound2scene": "Sound2Scene (sound → picture)",
    "icgan": "ICGAN (picture → picture)",
    "retrieval": "Retrieval (nearest training frame)",
    "upper_bound": "Upper bound (real frames)",
}
LISTEN: frozenset[str] = frozenset({"sound2scene", "retrieval"})  # those that need z^A

VERSION = 1  # raise it when the same features give other pictures
BLOCK_ROWS = 1024  # of similarities held at once


@dataclass(frozen=True, slots=True)
class Studio:
    """A model (loaded when it is first asked for), the clips, and where things are kept."""

    model: Callable[[], Sound2Scene]
    test: Clips
    train: Clips
    cache: FeatureCache
    pictures: Path
    seed: int

    def z_a(self) -> Table:
        """Return z^A of the test clips' sounds."""
        hearing = Hearing(self.model())
        return self.cache.of(sounds_of(self.test, hearing.spec), hearing)

    def z_v(self) -> Table:
        """Return z^V of the test clips' frames."""
        return self.cache.of(frames_of(self.test), Sight(self.model()))

    def samples(self, system: System) -> Samples:
        """Return the pictures of a system, in the order of the test clips."""
        if system == "upper_bound":
            return frames_of(self.test)
        if system == "retrieval":
            known = self.cache.of(frames_of(self.train), Sight(self.model()))
            return chosen(frames_of(self.train), nearest(self.z_a().values, known.values))
        return self._drawn(self.z_a() if system == "sound2scene" else self.z_v())

    def _drawn(self, h: Table) -> Samples:
        """Return one picture for each feature, its noise keyed by clip and seed."""
        weights = self.model().sources["generator"]["sha256"]
        identity = {"drawn": VERSION, "weights": weights, "features": h.digest, "seed": self.seed}
        store, name = Store(str(self.pictures)), f"{digest(identity)}.npy"
        if not store.exists(name):
            with store.writing(name) as path:
                self._draw(path, h.values)
        images = np.load(store.full(name), mmap_mode="r")  # [N, R, R, 3]

        def read(rows: Sequence[int]) -> list[NDArray[Any]]:
            return [np.array(images[row]) for row in rows]

        return Samples(identity, len(images), read)

    def _draw(self, path: Path, h: NDArray[np.float32]) -> None:
        model, step = self.model(), self.cache.batch_size
        side = model.generator.resolution
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(h), side, side, 3))
        for first in range(0, len(h), step):
            keys = self.test.keys[first : first + step]
            z = torch.cat([model.noise(key, 1, self.seed) for key in keys])
            given = torch.from_numpy(np.array(h[first : first + step])).to(model.device)
            images[first : first + step] = model.draw(given, z, batch_size=step)
        images.flush()


def chosen(samples: Samples, rows: NDArray[np.int64]) -> Samples:
    """Return these rows of a set of samples, in this order, repeated as they are."""
    places: list[int] = rows.tolist()

    def read(wanted: Sequence[int]) -> list[NDArray[Any]]:
        return samples.read([places[row] for row in wanted])

    return Samples({"of": dict(samples.identity), "rows": digest(places)}, len(places), read)


def nearest(queries: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each query [Q, D] the row of `known` [N, D] at the smallest angle, [Q]."""
    x, y = unit(queries), unit(known)
    blocks = [x[first : first + BLOCK_ROWS] @ y.T for first in range(0, len(x), BLOCK_ROWS)]
    return np.concatenate([block.argmax(axis=1) for block in blocks])
