"""tag: measures, never decides. YAMNet scores, loudness, silence, still pictures, cuts.

Each clip's sound and frames are decoded at most once, whatever the number of taggers. A clip
without sound, or without frames, lacks the measures that need them; that is no failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any, ClassVar

from avdata.clip import Clip, Frame, Member
from avdata.config import TagSettings
from avdata.errors import ClipError, Reason
from avdata.steps.base import PartContext, guarded
from avdata.store import Store
from avdata.taggers import build_taggers
from avdata.taggers.base import Sample


class TagStep:
    """Write what the taggers measure into `measures`, `class_scores` and `class_scores_max`."""

    name: ClassVar[str] = "tag"
    version: ClassVar[int] = 1

    def __init__(self, settings: TagSettings) -> None:
        self._taggers = build_taggers(settings)

    def fingerprint(self) -> dict[str, Any]:
        return {name: tagger.fingerprint() for name, tagger in self._taggers.items()}

    def run(self, clips: Sequence[Clip], part: PartContext) -> list[Clip]:
        with _MediaFiles(part.store) as media:
            return [guarded(self.name, clip, lambda c: self._tag(c, media)) for clip in clips]

    def _tag(self, clip: Clip, media: _MediaFiles) -> Clip:
        sample = Sample(clip, lambda member: media.read(clip, member))
        measures = dict(clip.measures)
        scores: dict[str, tuple[float, ...]] = {}
        for tagger in self._taggers.values():
            tags = tagger.tag(sample)
            measures.update(tags.measures)
            if tags.class_scores:
                scores["class_scores"] = tags.class_scores
                scores["class_scores_max"] = tags.class_scores_max
        return clip.after(self.name, measures=measures, **scores)


class _MediaFiles:
    """Media tars, each opened once (a remote one is copied here once) while a part is tagged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()

    def __enter__(self) -> _MediaFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def read(self, clip: Clip, member: Member | Frame) -> bytes:
        assert clip.media is not None
        path = clip.media.path
        if path not in self._files:
            local = self._open.enter_context(self._store.local(path))
            self._files[path] = self._open.enter_context(local.open("rb"))
        file = self._files[path]
        file.seek(member.offset)
        data = file.read(member.bytes)
        if len(data) != member.bytes:
            raise ClipError(
                Reason.CORRUPT, f"{path} ends before byte {member.offset} + {member.bytes}"
            )
        return data
