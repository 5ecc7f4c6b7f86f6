"""tag: measures, never decides. YAMNet scores, loudness, silence, still pictures, cuts.

Each clip's sound and frames are decoded at most once, whatever the number of taggers. A clip
without sound, or without frames, lacks the measures that need them; that is no failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from avdata.clip import Clip
from avdata.config import TagSettings
from avdata.media_tar import TarReader
from avdata.steps.base import PartContext, guarded
from avdata.taggers import build_taggers
from avdata.taggers.base import Sample


class TagStep:
    """Write what the taggers measure into `measures`, `class_scores` and `class_scores_max`."""

    name: ClassVar[str] = "tag"
    version: ClassVar[int] = 1
    uses_seed: ClassVar[bool] = False

    def __init__(self, settings: TagSettings) -> None:
        self._taggers = build_taggers(settings)

    def fingerprint(self) -> dict[str, Any]:
        """Return what each tagger's measures depend on."""
        return {name: tagger.fingerprint() for name, tagger in self._taggers.items()}

    def run(self, clips: Sequence[Clip], part: PartContext) -> list[Clip]:
        """Return the clips with what was measured on them."""
        with TarReader(part.store) as reader:
            return [guarded(self.name, clip, lambda c: self._tag(c, reader)) for clip in clips]

    def _tag(self, clip: Clip, reader: TarReader) -> Clip:
        path = clip.media.path if clip.media else ""
        sample = Sample(clip, lambda member: reader.read(path, member))
        measures = dict(clip.measures)
        scores: dict[str, tuple[float, ...]] = {}
        for tagger in self._taggers.values():
            tags = tagger.tag(sample)
            measures.update(tags.measures)
            if tags.class_scores:
                scores["class_scores"] = tags.class_scores
                scores["class_scores_max"] = tags.class_scores_max
        return clip.after(self.name, measures=measures, **scores)
