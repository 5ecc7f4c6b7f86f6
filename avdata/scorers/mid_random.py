"""The two baselines: the frame in the middle, and any frame."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from avdata.scorers.base import ScoredClip, Scores
from avdata.seeding import rng_for


class MidFrame:
    """Scores a frame by minus its distance, in seconds, from the middle of the clip."""

    name: ClassVar[str] = "mid"
    measures: ClassVar[tuple[str, ...]] = ()
    uses_seed: ClassVar[bool] = False

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def score(self, clip: ScoredClip) -> Scores:
        return Scores(-np.abs(clip.times_s - _length_s(clip) / 2))


class RandomFrame:
    """Scores frames uniformly in [0, 1), keyed by seed and clip."""

    name: ClassVar[str] = "random"
    measures: ClassVar[tuple[str, ...]] = ()
    uses_seed: ClassVar[bool] = True

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def score(self, clip: ScoredClip) -> Scores:
        rng = rng_for(clip.seed, "select", clip.clip.key)
        return Scores(rng.random(len(clip.times_s)))


def _length_s(clip: ScoredClip) -> float:
    """Return the length of the clip: of its sound, else of its window, else of its frames."""
    media, start_ms, end_ms = clip.media, clip.clip.start_ms, clip.clip.end_ms
    if media.n_samples:
        return media.n_samples / media.sample_rate_hz
    if start_ms is not None and end_ms is not None:
        return (end_ms - start_ms) / 1000
    return float(clip.times_s[0] + clip.times_s[-1])
