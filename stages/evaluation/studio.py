"""Where systems find what they need: clips, painters, caches; and where their pictures are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        side, workers = painter.resolution_px, self.cache.workers
        parts = pieces(range(len(asks)), self.cache.batch_size)

        def batches() -> Iterator[NDArray[np.uint8]]:
            for batch in ahead(parts, lambda rows: asks.read(rows, number), workers):
                yield painter.paint(batch, self.seed)

        return self.kept(identity, (len(asks), side), batches)

    def kept(
        self,
        identity: Mapping[str, Any],
        size: tuple[int, int],
        batches: Callable[[], Iterator[NDArray[np.uint8]]],
    ) -> Samples:
        """Return the N pictures [N, R, R, 3] of this identity, made batch by batch once and kept.

        size: N and R.
        """
        store, name = Store(str(self.pictures)), f"{digest(identity)}.npy"
        n, side = size
        if not store.exists(name):
            with store.writing(name) as path:
                images = np.lib.format.open_memmap(path, "w+", np.uint8, (n, side, side, 3))
                done = 0
                for batch in batches():
                    images[done : done + len(batch)] = batch
                    done += len(batch)
                images.flush()
        kept = np.load(store.full(name), mmap_mode="r")

        def read(rows: Sequence[int]) -> list[NDArray[Any]]:
            return [np.array(kept[row]) for row in rows]

        return Samples("pictures", identity, len(kept), read)
