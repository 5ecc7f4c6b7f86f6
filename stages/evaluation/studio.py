"""Where systems find what they need: clips, painters, caches; and where their pictures are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avdata.shards.ahead import ahead
from avdata.store import Store
from avdata.strict import digest
from stages.evaluation.asks import Asks
from stages.generation.painter import Painter
from stages.pairs.clips import Clips
from stages.pairs.computed import pieces
from stages.pairs.features import FeatureCache
from stages.pairs.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 2  # raise it when the same asks give other pictures


@dataclass(frozen=True, slots=True)
class Studio:
    """The clips, the painters by family (opened when first asked for), and where things are kept.

    painter: of a family, or as FAMILY/ROW of a row of its ablations. test: the clips that are
    scored, and the class of each. train: those that may be learnt or retrieved from.
    """

    painter: Callable[[str], Painter]
    test: Clips
    classes: Sequence[str]
    train: Clips
    cache: FeatureCache
    pictures: Path
    seed: int

    def painted(self, painter_name: str, asks: Asks, number: int = 0) -> Samples:
        """Return one picture for each row that is asked, made once and kept.

        The noise is keyed by clip, number and seed.
        """
        painter = self.painter(painter_name)
        identity = {
            "painted": VERSION,
            "family": painter_name,
            "painter": painter.identity(),
            "asks": asks.identity(),
            "number": number,
            "seed": self.seed,
        }
        store, name = Store(str(self.pictures)), f"{digest(identity)}.npy"
        if not store.exists(name):
            with store.writing(name) as path:
                self._paint(path, painter, asks, number)
        images = np.load(store.full(name), mmap_mode="r")  # [N, R, R, 3]

        def read(rows: Sequence[int]) -> list[NDArray[Any]]:
            return [np.array(images[row]) for row in rows]

        return Samples("pictures", identity, len(images), read)

    def _paint(self, path: Path, painter: Painter, asks: Asks, number: int) -> None:
        side, parts = painter.resolution_px, pieces(range(len(asks)), self.cache.batch_size)
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(asks), side, side, 3))
        read = ahead(parts, lambda rows: asks.read(rows, number), self.cache.workers)
        for rows, batch in zip(parts, read, strict=True):
            images[rows.start : rows.stop] = painter.paint(batch, self.seed)
        images.flush()
