"""What figures are computed from, and how they stand in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.evaluation.judges import Judges
from stages.evaluation.scores import Sampling
from stages.evaluation.studio import Studio
from stages.evaluation.system import System
from stages.evaluation.wishes import RestylingSettings
from stages.metrics.frechet import Reference
from stages.metrics.retrieval import hits_at_k
from stages.pairs.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Column:
    """How a figure is written: its heading, and a share in percent or `digits`; in which table."""

    name: str
    heading: str
    percent: bool = False
    digits: int = 2
    table: Literal["pictures", "restyled"] = "pictures"


@dataclass(frozen=True)
class Judged:
    """One system's pictures and all that figures are computed from.

    samples: at the judged size. targets: [N], the class of each clip as a number. ks: of R@k.
    """

    system: System
    samples: Samples
    studio: Studio
    judges: Judges
    reference: Reference  # of the real frames, for FID
    classes: Sequence[str]
    targets: NDArray[np.int64]
    ks: Sequence[int]
    sampling: Sampling
    judged_px: int
    is_splits: int
    varied: int  # pictures of one sound, for the diversity
    restyling: RestylingSettings

    @cached_property
    def similarity(self) -> NDArray[Any]:
        """Similarities [N, C] of the pictures to the classes."""
        looks = self.judges.recall_looks
        return self.judges.recall.scores(self.studio.cache.of(self.samples, looks).values)

    @cached_property
    def seen(self) -> NDArray[np.float32]:
        """Features [N, D] of the pictures, for FID and IS."""
        return self.studio.cache.of(self.samples, self.judges.looks).values

    def hits(self, k: int) -> NDArray[np.float64]:
        """Return for each clip [N] whether its class is among the first k; between for ties."""
        return hits_at_k(self.similarity, self.targets, k)


Figure = Callable[[Judged], dict[str, Any]]
"""From what is judged to figures by column; an interval is {"value", "low", "high"}."""
