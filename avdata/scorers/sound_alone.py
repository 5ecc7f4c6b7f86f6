"""No frame at all: for sounds without pictures, and where pictures are not wanted."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from avdata.errors import ClipError, Reason
from avdata.scorers.base import ScoredClip, Scores


class SoundAlone:
    """Scores no frame, so that none is picked; a clip without sound is rejected (no_audio)."""

    name: ClassVar[str] = "none"
    measures: ClassVar[tuple[str, ...]] = ()
    uses_seed: ClassVar[bool] = False

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def score(self, clip: ScoredClip) -> Scores:
        media = clip.clip.media
        if media is None or not media.n_samples:
            raise ClipError(Reason.NO_AUDIO, "the clip has no sound, and no picture is asked for")
        return Scores(np.zeros(0))
