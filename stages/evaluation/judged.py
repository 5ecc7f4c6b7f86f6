"""What figures are computed from, and how they stand in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avdata.errors import SettingsError
from stages.evaluation.judges import Judges
from stages.evaluation.scores import Sampling
from stages.evaluation.studio import Studio
from stages.evaluation.system import System
from stages.evaluation.wishes import RestylingSettings
from stages.metrics.bootstrap import bootstrap_mean
from stages.metrics.frechet import Reference
from stages.metrics.retrieval import hits_at_k
from stages.pairs.samples import Samples, frames_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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
    of_clips: by figure, the values of single clips by row, as `keep` and `mean` were told them.
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
    of_clips: dict[str, dict[int, float]] = field(default_factory=dict, init=False)

    @cached_property
    def similarity(self) -> NDArray[Any]:
        """Similarities [N, C] of the pictures to the classes."""
        looks = self.judges.recall_looks
        return self.judges.recall.scores(self.studio.cache.of(self.samples, looks).values)

    @cached_property
    def before(self) -> Samples:
        """The pictures that these were made of, of any size; raises SettingsError without any."""
        system = self.system
        if system.starts is not None:
            return system.starts(self.studio)
        if system.contents is not None:
            return frames_of(system.contents(self.studio))
        raise SettingsError(
            f"system {system.name} is to be asked what became of the pictures it started from, but "
            "its record names none: give System.contents or starts, or leave the figure out"
        )

    @cached_property
    def similarity_before(self) -> NDArray[Any]:
        """Similarities [N, C] of the pictures that these were made of."""
        samples = self.before.resized(self.judged_px)
        features = self.studio.cache.of(samples, self.judges.recall_looks)
        return self.judges.recall.scores(features.values)

    @cached_property
    def seen(self) -> NDArray[np.float32]:
        """Features [N, D] of the pictures, for FID and IS."""
        return self.studio.cache.of(self.samples, self.judges.looks).values

    def hits(self, k: int) -> NDArray[np.float64]:
        """Return for each clip [N] whether its class is among the first k; between for ties."""
        return hits_at_k(self.similarity, self.targets, k)

    def keep(self, name: str, values: ArrayLike, rows: Sequence[int] | None = None) -> None:
        """Keep a figure's value of every clip, or of those of `rows`."""
        own = np.asarray(values, np.float64).tolist()
        self.of_clips[name] = dict(zip(range(len(own)) if rows is None else rows, own, strict=True))

    def interval(
        self, values: ArrayLike, rows: Sequence[int] | None = None
    ) -> dict[str, float | None]:
        """Return the mean of values of all clips, or of those of `rows`, over source videos."""
        options = self.sampling.options
        if rows is not None:
            options = {**options, "clusters": [self.sampling.sources[row] for row in rows]}
        return bootstrap_mean(values, **options).to_json()

    def mean(
        self, name: str, values: ArrayLike, rows: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return {name: the mean with its interval}, and keep each clip's value."""
        self.keep(name, values, rows)
        return {name: self.interval(values, rows)}


Figure = Callable[[Judged], dict[str, Any]]
"""From what is judged to figures by column; an interval is {"value", "low", "high"}."""
